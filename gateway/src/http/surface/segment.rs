//! The Segment spec, as the SDKs of Segment and RudderStack speak it.

use std::borrow::Cow;

use axum::Json;
use axum::response::{IntoResponse, Response};
use common::event::{Format, Skew};
use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::super::error::ApiError;
use super::super::split::Shape;
use super::super::verdict::Wanted;
use super::{Submission, Surface, events, read, text};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(borrow)]
    batch: Option<&'a RawValue>,
    #[serde(borrow)]
    write_key: Option<&'a RawValue>,
    #[serde(borrow)]
    sent_at: Option<&'a RawValue>,
}

pub fn open_batch(body: &[u8], tolerance: SignedDuration) -> Result<Submission<'_>, ApiError> {
    let batch: Body<'_> = read(body)?;
    let skew = Skew::told_by(batch.sent_at.map(RawValue::get), tolerance);
    Ok(Submission {
        surface: Surface::Segment,
        format: Format::Segment { call: None, skew },
        events: events(batch.batch, "batch")?,
        shape: Shape::Wrapped("batch"),
        key: text(batch.write_key),
        wanted: Wanted::All,
        table: None,
    })
}

/// The call tells itself when it was sent.
pub fn open_call<'a>(
    call: &'static str,
    body: &'a [u8],
    tolerance: SignedDuration,
) -> Result<Submission<'a>, ApiError> {
    let key = read::<Body<'_>>(body)?.write_key;
    Ok(Submission {
        surface: Surface::Segment,
        format: Format::Segment { call: Some(call), skew: Skew::told_by(None, tolerance) },
        events: vec![Cow::Borrowed(body)],
        shape: Shape::Single,
        key: text(key),
        wanted: Wanted::All,
        table: None,
    })
}

pub fn answer() -> Response {
    Json(json!({"success": true})).into_response()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{open, opened};
    use super::super::{Door, Surface};

    #[test]
    fn a_batch_has_its_key_beside_it() {
        let body = r#"{"batch":[{"type":"track"},{}],"writeKey":"wk","sentAt":"x"}"#;
        let events = vec![r#"{"type":"track"}"#.to_owned(), "{}".to_owned()];
        assert_eq!(opened(Door::Segment, body), (Surface::Segment, Some("wk".to_owned()), events));
        assert_eq!(opened(Door::Segment, r#"{"batch":[]}"#).2.len(), 0);
    }

    #[test]
    fn a_call_is_its_own_body() {
        let body = r#"{"event":"e","writeKey":"wk"}"#;
        let (_, key, events) = opened(Door::SegmentCall("track"), body);
        assert_eq!((key.as_deref(), events), (Some("wk"), vec![body.to_owned()]));
    }

    #[test]
    fn what_has_no_batch_is_refused_as_a_whole() {
        for body in ["", "{", "[]", "{}", r#"{"batch":{}}"#, r#"{"batch":null}"#] {
            assert!(open(Door::Segment, "/", body.as_bytes()).is_err(), "{body}");
        }
    }
}
