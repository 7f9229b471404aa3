//! A request whose head cannot be read gets a problem document too. hyper answers those by itself, without a
//! body and before any service sees them (hyper 1.12, `Http1Transaction::on_error`); this gives its answer one
//! on the way out.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use hyper::rt::{Read, ReadBufCursor, Write};
use tracing::debug;

use super::error::{ApiError, Dialect, Problem};
use super::finish::{REQUEST_ID, new_request_id};
use super::server::HEAD_BYTES_MAX;

/// A connection of HTTP/1 on which hyper's own refusals are completed.
pub struct Completed<S> {
    stream: S,
    /// What is written in the place of a refusal, and how much of it is out.
    refusal: Option<(Vec<u8>, usize)>,
}

impl<S> Completed<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, refusal: None }
    }
}

impl<S: Write + Unpin> Completed<S> {
    fn poll_write_refusal(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some((answer, written)) = &mut self.refusal {
            let more = ready!(Pin::new(&mut self.stream).poll_write(context, &answer[*written..]))?;
            *written += more;
            if more == 0 || *written == answer.len() {
                self.refusal = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Read + Unpin> Read for Completed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: Write + Unpin> Write for Completed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.refusal.is_none() {
            let Some(status) = status_of_refusal(bytes) else {
                return Pin::new(&mut self.stream).poll_write(context, bytes);
            };
            self.refusal = Some((refusal(status), 0));
        }
        ready!(self.poll_write_refusal(context))?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match slices {
            // A refusal has no body: its head is alone.
            [head] => self.poll_write(context, head),
            _ => Pin::new(&mut self.stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The status, when these bytes are hyper's own refusal: our answers have a request id.
fn status_of_refusal(bytes: &[u8]) -> Option<StatusCode> {
    let status = bytes.strip_prefix(b"HTTP/1.1 ").or_else(|| bytes.strip_prefix(b"HTTP/1.0 "))?;
    let status = match status.get(..3)? {
        b"400" => StatusCode::BAD_REQUEST,
        b"431" => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        _ => return None,
    };
    let head = std::str::from_utf8(bytes.strip_suffix(b"\r\n\r\n")?).ok()?;
    let is_ours = head.contains(REQUEST_ID.as_str());
    (!is_ours && head.contains("content-length: 0")).then_some(status)
}

fn refusal(status: StatusCode) -> Vec<u8> {
    let error = match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            ApiError::HeadTooLarge { bytes_max: HEAD_BYTES_MAX }
        }
        _ => ApiError::UnreadableHead,
    };
    let problem = error.into_response().extensions_mut().remove::<Problem>();
    let problem = problem.expect("every error is answered with one");
    let id = new_request_id();
    let id = id.to_str().unwrap_or_default();
    debug!(request_id = id, code = problem.code, %status, "refused");
    let (body, json) = problem.render(Dialect::Problem, "", id);
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {json}\r\ncontent-length: {}\r\n{REQUEST_ID}: {id}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_hyper_refuses_by_itself_is_completed() {
        let refusals = [
            ("HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", 400),
            ("HTTP/1.0 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n", 431),
        ];
        for (bytes, status) in refusals {
            assert_eq!(status_of_refusal(bytes.as_bytes()).map(|it| it.as_u16()), Some(status));
        }
        let others = [
            "HTTP/1.1 400 Bad Request\r\nx-request-id: 1\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400",
            "",
        ];
        for bytes in others {
            assert_eq!(status_of_refusal(bytes.as_bytes()), None, "{bytes:?}");
        }
    }
}
