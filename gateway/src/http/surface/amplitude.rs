//! Amplitude's HTTP API v2, whose clients go by the code in the body.

use axum::Json;
use axum::response::{IntoResponse, Response};
use common::event::{Format, Skew};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::super::error::ApiError;
use super::super::split::Shape;
use super::super::verdict::{Verdicts, Wanted};
use super::{Submission, Surface, events, read, text};

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    api_key: Option<&'a RawValue>,
    #[serde(borrow)]
    events: Option<&'a RawValue>,
    #[serde(borrow)]
    client_upload_time: Option<&'a RawValue>,
}

pub fn open(body: &[u8], tolerance: SignedDuration) -> Result<Submission<'_>, ApiError> {
    let sent: Body<'_> = read(body)?;
    let skew = Skew::told_by(sent.client_upload_time.map(RawValue::get), tolerance);
    Ok(Submission {
        surface: Surface::Amplitude,
        format: Format::Amplitude(skew),
        events: events(sent.events, "events")?,
        shape: Shape::Wrapped("events"),
        key: text(sent.api_key),
        wanted: Wanted::All,
        table: None,
    })
}

pub fn answer(verdicts: &Verdicts, body_bytes: usize) -> Response {
    #[derive(Serialize)]
    struct Ingested {
        code: u16,
        events_ingested: usize,
        payload_size_bytes: usize,
        server_upload_time: i64,
    }
    Json(Ingested {
        code: 200,
        events_ingested: verdicts.accepted,
        payload_size_bytes: body_bytes,
        server_upload_time: Timestamp::now().as_millisecond(),
    })
    .into_response()
}

/// A problem as its clients read it: they know its status by a number in the body.
#[derive(Serialize)]
pub struct Refusal<'a> {
    pub code: u16,
    pub error: &'a str,
    #[serde(rename = "requestId")]
    pub request_id: &'a str,
}

#[cfg(test)]
mod tests {
    use super::super::Door;
    use super::super::tests::{open, opened};
    use super::*;

    #[test]
    fn a_batch_has_its_key_beside_it() {
        let body = r#"{"api_key":"k","events":[{"event_type":"e"}],"options":{}}"#;
        let expected = (Surface::Amplitude, Some("k".into()), vec![r#"{"event_type":"e"}"#.into()]);
        assert_eq!(opened(Door::Amplitude, body), expected);
        assert!(open(Door::Amplitude, "/", br#"{"batch":[]}"#).is_err());
    }
}
