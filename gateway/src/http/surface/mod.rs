//! Every way to send events: how its bodies are put together, whose words its events are in, what it hears back.

mod amplitude;
mod cloudevents;
mod native;
mod posthog;
mod segment;
mod table;

use std::borrow::Cow;

use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use common::event::Format;
use jiff::SignedDuration;
use serde_json::value::RawValue;

pub use self::amplitude::Refusal as AmplitudeRefusal;
use self::table::Table;
use super::content::{self, Encoding};
use super::error::{ApiError, Dialect};
use super::split::{self, Shape};
use super::verdict::{Verdicts, Wanted};
use crate::auth::Caller;

/// What a path takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Our own form, the two flat ones, CloudEvents.
    Native,
    /// The same, to be judged and not stored.
    Validation,
    /// A batch of calls.
    Segment,
    /// One call, of the kind that the path says.
    SegmentCall(&'static str),
    /// PostHog's first protocol; a batch under `events` is Amplitude's.
    PostHog,
    PostHogV1,
    Amplitude,
}

/// The doors of compatibility clients, by path.
pub const COMPATIBILITY: [(&str, Door); 20] = [
    ("/v1/batch", Door::Segment),
    ("/v1/track", Door::SegmentCall("track")),
    ("/v1/identify", Door::SegmentCall("identify")),
    ("/v1/page", Door::SegmentCall("page")),
    ("/v1/screen", Door::SegmentCall("screen")),
    ("/v1/group", Door::SegmentCall("group")),
    ("/v1/alias", Door::SegmentCall("alias")),
    // What Segment's SDK for browsers calls them.
    ("/v1/b", Door::Segment),
    ("/v1/t", Door::SegmentCall("track")),
    ("/v1/i", Door::SegmentCall("identify")),
    ("/v1/p", Door::SegmentCall("page")),
    ("/v1/s", Door::SegmentCall("screen")),
    ("/v1/g", Door::SegmentCall("group")),
    ("/v1/a", Door::SegmentCall("alias")),
    ("/batch", Door::PostHog),
    ("/capture", Door::PostHog),
    ("/e", Door::PostHog),
    ("/i/v0/e", Door::PostHog),
    ("/i/v1/analytics/events", Door::PostHogV1),
    ("/2/httpapi", Door::Amplitude),
];

/// Whose words a submission is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    Native,
    Segment,
    PostHog,
    PostHogV1,
    Amplitude,
}

/// What was sent.
pub struct Submission<'a> {
    pub surface: Surface,
    /// In whose words the events are.
    pub format: Format<'a>,
    /// The texts of the events, in input order.
    pub events: Vec<Cow<'a, [u8]>>,
    pub shape: Shape,
    /// The credential in the body, where the surface puts it there.
    pub key: Option<Cow<'a, str>>,
    pub wanted: Wanted,
    /// Of a body that is one.
    pub table: Option<Table>,
}

impl Door {
    /// Whose SDKs come here.
    pub fn vendor(self) -> &'static str {
        match self {
            Self::Native | Self::Validation => "Tallyman",
            Self::Segment | Self::SegmentCall(_) => "Segment and RudderStack",
            Self::PostHog | Self::PostHogV1 => "PostHog",
            Self::Amplitude => "Amplitude",
        }
    }

    /// What can be done here, for the API's description.
    pub fn summary(self) -> &'static str {
        match self {
            Self::Native => "Send events",
            Self::Validation => "Judge events without storing them",
            Self::Segment => "Send a batch of calls",
            Self::SegmentCall(_) => "Send one call",
            Self::PostHog | Self::PostHogV1 | Self::Amplitude => "Send events as the SDK does",
        }
    }

    /// A compatibility client may carry its key in the body, and must not be refused for one bad event.
    pub fn is_native(self) -> bool {
        matches!(self, Self::Native | Self::Validation)
    }

    /// Whose words are spoken here, as long as the body has not said otherwise.
    pub fn surface(self) -> Surface {
        match self {
            Self::Native | Self::Validation => Surface::Native,
            Self::Segment | Self::SegmentCall(_) => Surface::Segment,
            Self::PostHog => Surface::PostHog,
            Self::PostHogV1 => Surface::PostHogV1,
            Self::Amplitude => Surface::Amplitude,
        }
    }

    /// Whose words a body was in that could not be opened.
    pub fn surface_of(self, body: &[u8]) -> Surface {
        match self {
            Self::PostHog => posthog::surface_of(body),
            _ => self.surface(),
        }
    }

    /// Refuses by the head alone what would be read in vain. Compatibility clients say nothing in
    /// it that can be relied on.
    pub fn check(self, head: &Parts) -> Result<(), ApiError> {
        if self.is_native() { native::check(head) } else { Ok(()) }
    }

    /// How the body is compressed: PostHog's browser SDK says it in the query alone.
    pub fn encoding(self, head: &Parts) -> Result<Option<Encoding>, ApiError> {
        match self {
            Self::PostHog => posthog::encoding(head),
            _ => content::encoding(&head.headers),
        }
    }

    /// Takes the body out of what a browser put around it.
    pub fn unwrap(self, body: Bytes) -> Result<Bytes, ApiError> {
        match self {
            Self::PostHog => posthog::unwrap(body),
            _ => Ok(body),
        }
    }

    /// Cuts a body into its events. `known` is who sends, unless the body alone says so; `tolerance`
    /// is how far a client's clock may be off.
    pub fn open<'a>(
        self,
        head: &Parts,
        body: &'a [u8],
        known: Option<&Caller>,
        tolerance: SignedDuration,
    ) -> Result<Submission<'a>, ApiError> {
        match self {
            Self::Native | Self::Validation => {
                native::open(head, body, known.is_some_and(|it| it.confined_to.is_some()))
            }
            Self::Segment => segment::open_batch(body, tolerance),
            Self::SegmentCall(call) => segment::open_call(call, body, tolerance),
            Self::PostHog => posthog::open(body, tolerance),
            Self::PostHogV1 => posthog::open_v1(head, body, tolerance),
            Self::Amplitude => amplitude::open(body, tolerance),
        }
    }
}

impl Surface {
    /// The header `surface` of its records, and the `source` of events that name none.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "http",
            Self::Segment => "segment",
            Self::PostHog | Self::PostHogV1 => "posthog",
            Self::Amplitude => "amplitude",
        }
    }

    /// What a request hears that failed as a whole.
    pub fn refuse(self, error: ApiError) -> Response {
        let mut answer = error.into_response();
        if self == Self::Amplitude {
            answer.extensions_mut().insert(Dialect::Amplitude);
        }
        answer
    }

    /// What a request hears once each of its events has a verdict; `body_bytes` is what it sent.
    pub fn answer(self, verdicts: Verdicts, body_bytes: usize) -> Result<Response, ApiError> {
        match self {
            Self::Native => native::answer(verdicts),
            // It alone can send some of a batch again.
            Self::PostHogV1 => Ok(posthog::answer_v1(&verdicts)),
            _ if verdicts.retry > 0 => Err(ApiError::NotAllStored(verdicts)),
            Self::Segment => Ok(segment::answer()),
            Self::PostHog => Ok(posthog::answer()),
            Self::Amplitude => Ok(amplitude::answer(&verdicts, body_bytes)),
        }
    }
}

/// What validation answers: as if it were stored, but that nothing is on its way.
pub fn answer_validation(verdicts: Verdicts) -> Result<Response, ApiError> {
    let mut answer = native::answer(verdicts)?;
    if answer.status() == StatusCode::ACCEPTED {
        *answer.status_mut() = StatusCode::OK;
    }
    Ok(answer)
}

/// The body's JSON in the shape that a surface expects.
fn read<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    let body = split::trimmed(body);
    if body.is_empty() {
        return Err(ApiError::EmptyBody);
    }
    serde_json::from_str(split::utf8(body)?).map_err(split::invalid_json)
}

/// The events of a batch, which may be empty: a client with nothing to say is not wrong.
fn events<'a>(batch: Option<&'a RawValue>, member: &'static str) -> Result<Events<'a>, ApiError> {
    let batch = batch.ok_or_else(|| split::no_array(member))?;
    let events = match split::items(batch.get(), member) {
        Err(ApiError::EmptyBatch) => Vec::new(),
        items => items?,
    };
    Ok(events.into_iter().map(Cow::Borrowed).collect())
}

type Events<'a> = Vec<Cow<'a, [u8]>>;

/// The text of a member that should be one; nothing of any other.
fn text(value: Option<&RawValue>) -> Option<Cow<'static, str>> {
    let text: String = serde_json::from_str(value?.get()).ok()?;
    (!text.is_empty()).then_some(Cow::Owned(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The head of a request to this path and query.
    pub fn head(uri: &str) -> Parts {
        axum::http::Request::builder().uri(uri).body(()).unwrap().into_parts().0
    }

    pub fn open<'a>(door: Door, uri: &str, body: &'a [u8]) -> Result<Submission<'a>, ApiError> {
        door.open(&head(uri), body, None, SignedDuration::from_secs(60))
    }

    /// The key and the events of a body that must be readable.
    pub fn opened(door: Door, body: &str) -> (Surface, Option<String>, Vec<String>) {
        let body = door.unwrap(Bytes::copy_from_slice(body.as_bytes())).unwrap();
        let submission = open(door, "/", &body).unwrap();
        let events = submission.events.iter();
        let events = events.map(|event| String::from_utf8(event.to_vec()).unwrap());
        (submission.surface, submission.key.map(Cow::into_owned), events.collect())
    }
}
