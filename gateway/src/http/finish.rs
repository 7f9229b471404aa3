//! What every answer gets at the very end: its request id, its problem document, its count, its place
//! among the stored answers.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use axum::response::Response;
use tracing::debug;
use uuid::Uuid;

use super::Gateway;
use super::error::{Dialect, Problem};
use crate::idempotency::Attempt;

pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A longer id of the client's is replaced: it goes into every log line.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// What is kept of a request until its answer is ready.
pub struct Receipt {
    request_id: HeaderValue,
    uri: Uri,
    attempt: Option<Attempt>,
}

impl Receipt {
    pub fn of(request: &mut Request) -> Self {
        let attempt = Attempt::of(request.headers());
        if let Some(attempt) = &attempt {
            request.extensions_mut().insert(attempt.clone());
        }
        Self { request_id: request_id(request.headers()), uri: request.uri().clone(), attempt }
    }

    pub async fn finish(self, gateway: &Gateway, mut response: Response) -> Response {
        let status = response.status();
        gateway.metrics.responses_total.with_label_values(&[status.as_str()]).inc();
        if let Some(problem) = response.extensions_mut().remove::<Problem>() {
            let request_id = self.request_id.to_str().unwrap_or_default();
            // The path only: a query may hold a key.
            let path = self.uri.path();
            debug!(request_id, path, code = problem.code, %status, "refused");
            let dialect = response.extensions_mut().remove::<Dialect>().unwrap_or_default();
            let (body, json) = problem.render(dialect, path, request_id);
            *response.body_mut() = Body::from(body);
            // The router wrote down the length of what was there before.
            response.headers_mut().remove(header::CONTENT_LENGTH);
            let json = HeaderValue::from_static(json);
            response.headers_mut().insert(header::CONTENT_TYPE, json);
        }
        response.headers_mut().insert(REQUEST_ID.clone(), self.request_id);
        match self.attempt {
            Some(attempt) => Box::pin(attempt.settle(response)).await,
            None => response,
        }
    }
}

/// The client's own id, when it is short and printable; else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let is_usable = |id: &&HeaderValue| {
        let id = id.as_bytes();
        (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
    };
    headers.get(&REQUEST_ID).filter(is_usable).cloned().unwrap_or_else(new_request_id)
}

pub fn new_request_id() -> HeaderValue {
    let mut text = Uuid::encode_buffer();
    HeaderValue::from_str(Uuid::now_v7().hyphenated().encode_lower(&mut text))
        .expect("hexadecimal digits and hyphens are visible")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_for(sent: &str) -> HeaderValue {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID.clone(), HeaderValue::from_str(sent).unwrap());
        request_id(&headers)
    }

    #[test]
    fn a_printable_id_is_kept_and_any_other_replaced() {
        assert_eq!(id_for("trace/1:a-b"), "trace/1:a-b");
        let longest = "x".repeat(128);
        assert_eq!(id_for(&longest), longest.as_str());
        for unusable in ["", "two words", &"x".repeat(129)] {
            assert_eq!(id_for(unusable).len(), 36, "{unusable}");
        }
    }
}
