//! PostHog's protocols: the first takes a batch, an array or one event, also as browsers wrap them; the
//! second says of each event what became of it.

use std::borrow::Cow;

use axum::Json;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use common::event::{Format, Skew};
use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::super::content::{self, Encoding};
use super::super::error::ApiError;
use super::super::split::{self, Shape};
use super::super::verdict::{Status, Verdicts, Wanted};
use super::{Submission, Surface, amplitude, events, read, text};

/// A batch, or an event by itself.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    batch: Option<&'a RawValue>,
    #[serde(borrow)]
    events: Option<&'a RawValue>,
    #[serde(borrow)]
    sent_at: Option<&'a RawValue>,
    #[serde(borrow)]
    created_at: Option<&'a RawValue>,
    #[serde(borrow)]
    api_key: Option<&'a RawValue>,
    #[serde(borrow)]
    token: Option<&'a RawValue>,
    #[serde(borrow)]
    properties: Option<&'a RawValue>,
}

impl Body<'_> {
    fn is_amplitudes(&self) -> bool {
        self.batch.is_none() && self.events.is_some()
    }

    /// Browsers put it among the properties.
    fn key(&self) -> Option<Cow<'static, str>> {
        let in_properties = || {
            let properties: Body<'_> = serde_json::from_str(self.properties?.get()).ok()?;
            text(properties.token)
        };
        text(self.api_key).or_else(|| text(self.token)).or_else(in_properties)
    }
}

pub fn open(body: &[u8], tolerance: SignedDuration) -> Result<Submission<'_>, ApiError> {
    if split::trimmed(body).starts_with(b"[") {
        return open_array(body, tolerance);
    }
    let sent: Body<'_> = read(body)?;
    if sent.is_amplitudes() {
        return amplitude::open(body, tolerance);
    }
    let (events, shape) = match sent.batch {
        Some(_) => (events(sent.batch, "batch")?, Shape::Wrapped("batch")),
        None => (vec![Cow::Borrowed(body)], Shape::Single),
    };
    let skew = Skew::told_by(sent.sent_at.map(RawValue::get), tolerance);
    Ok(submission(Surface::PostHog, skew, events, shape, sent.key()))
}

/// Whose a body is that could not be opened.
pub fn surface_of(body: &[u8]) -> Surface {
    match read::<Body<'_>>(body) {
        Ok(sent) if sent.is_amplitudes() => Surface::Amplitude,
        _ => Surface::PostHog,
    }
}

fn open_array(body: &[u8], tolerance: SignedDuration) -> Result<Submission<'_>, ApiError> {
    let events = events(Some(read::<&RawValue>(body)?), "")?;
    let first = events.first().and_then(|event| serde_json::from_slice::<Body<'_>>(event).ok());
    let key = first.and_then(|first| first.key());
    let skew = Skew::told_by(None, tolerance);
    Ok(submission(Surface::PostHog, skew, events, Shape::Array, key))
}

/// A repeated request is made under a new `PostHog-Request-Timestamp`.
pub fn open_v1<'a>(
    head: &Parts,
    body: &'a [u8],
    tolerance: SignedDuration,
) -> Result<Submission<'a>, ApiError> {
    let sent: Body<'_> = read(body)?;
    let requested_at =
        head.headers.get("posthog-request-timestamp").and_then(|it| it.to_str().ok());
    let requested_at = requested_at.map(|text| Value::from(text).to_string());
    let sent_at = requested_at.as_deref().or(sent.created_at.map(RawValue::get));
    let skew = Skew::told_by(sent_at, tolerance);
    let (events, shape) = (events(sent.batch, "batch")?, Shape::Wrapped("batch"));
    Ok(submission(Surface::PostHogV1, skew, events, shape, sent.key()))
}

fn submission<'a>(
    surface: Surface,
    skew: Skew,
    events: super::Events<'a>,
    shape: Shape,
    key: Option<Cow<'a, str>>,
) -> Submission<'a> {
    Submission {
        surface,
        format: Format::PostHog(skew),
        events,
        shape,
        key,
        wanted: Wanted::All,
        table: None,
    }
}

/// Browsers compress without a header, which would make a preflight necessary.
pub fn encoding(head: &Parts) -> Result<Option<Encoding>, ApiError> {
    let mut pairs = head.uri.query().unwrap_or_default().split('&');
    match pairs.find_map(|pair| pair.strip_prefix("compression=")) {
        Some("gzip-js" | "gzip") => Ok(Some(Encoding::Gzip)),
        None | Some("" | "base64") => content::encoding(&head.headers),
        Some(other) => Err(ApiError::UnsupportedEncoding { found: other.to_owned() }),
    }
}

/// The value of the form field `data`, which is JSON or JSON in base64.
pub fn unwrap(body: Bytes) -> Result<Bytes, ApiError> {
    if !body.starts_with(b"data=") {
        return Ok(body);
    }
    let field = form_urlencoded::parse(&body).find(|(name, _value)| name == "data");
    let value = field.map(|(_name, value)| value.into_owned()).unwrap_or_default();
    if value.starts_with(['{', '[']) {
        return Ok(value.into());
    }
    // A client that does not escape `+` has sent blanks.
    STANDARD.decode(value.replace(' ', "+")).map(Bytes::from).map_err(|error| {
        ApiError::Unreadable {
            code: "invalid_json",
            pointer: "",
            detail: format!("the form's `data` is neither JSON nor base64: {error}"),
        }
    })
}

pub fn answer() -> Response {
    Json(json!({"status": "Ok"})).into_response()
}

pub fn answer_v1(verdicts: &Verdicts) -> Response {
    let mut results = Map::new();
    for verdict in verdicts.all() {
        let Some(uuid) = &verdict.event_id else { continue };
        let result = match verdict.status {
            Status::Accepted => "ok",
            Status::Rejected => "drop",
            Status::Retry => "retry",
        };
        let mut told = json!({ "result": result });
        if let Some(reason) = &verdict.reason {
            told["details"] = Value::from(format!("{}: {}", reason.code, reason.detail));
        }
        // Of two with one uuid the one to be sent again decides: it is not stored yet.
        if results.get(uuid).is_none_or(|before| before["result"] != "retry") {
            results.insert(uuid.clone(), told);
        }
    }
    Json(json!({ "results": results })).into_response()
}

#[cfg(test)]
mod tests {
    use super::super::Door;
    use super::super::tests::{head, open, opened};
    use super::*;

    const EVENT: &str = r#"{"event":"e","properties":{"token":"phc"}}"#;

    #[test]
    fn every_body_of_the_first_protocol_is_known_by_its_looks() {
        let in_base64 = format!("data={}&ver=1", STANDARD.encode(EVENT).replace('=', "%3D"));
        let form = format!("data={}", EVENT.replace('"', "%22"));
        let batch = format!(r#"{{"api_key":"phc","batch":[{EVENT}],"sent_at":"x"}}"#);
        for body in [EVENT, &format!(" [{EVENT}]"), &batch, &form, &in_base64] {
            let expected = (Surface::PostHog, Some("phc".to_owned()), vec![EVENT.to_owned()]);
            assert_eq!(opened(Door::PostHog, body), expected, "{body}");
        }
    }

    #[test]
    fn a_batch_under_events_is_from_amplitude() {
        let (surface, key, events) = opened(Door::PostHog, r#"{"api_key":"k","events":[{}]}"#);
        assert_eq!((surface, key.as_deref(), events.len()), (Surface::Amplitude, Some("k"), 1));
    }

    #[test]
    fn the_query_says_that_a_browser_compressed() {
        let of = |uri| encoding(&head(uri)).unwrap();
        assert_eq!(of("/e/?ip=1&compression=gzip-js"), Some(Encoding::Gzip));
        assert_eq!(of("/e/?compression=base64"), None);
        assert_eq!(of("/e/"), None);
        assert!(encoding(&head("/e/?compression=lz64")).is_err());
    }

    #[test]
    fn what_is_no_json_is_refused_as_a_whole() {
        for body in ["", "{", "[1,", "data=%%%"] {
            let unwrapped = unwrap(Bytes::copy_from_slice(body.as_bytes()));
            let opened = unwrapped.and_then(|body| open(Door::PostHog, "/", &body).map(drop));
            assert!(opened.is_err(), "{body}");
        }
    }
}
