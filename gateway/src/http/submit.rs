//! Takes a request's events: credential, body, events, Kafka; one verdict each.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use common::event::{self, Arrival, EVENT_BYTES_MAX, Event, InvalidEvent, REWRITE_BYTES_MAX};
use common::kafka::{Delivery, PublishError};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use tracing::error;
use uuid::Uuid;

use super::Gateway;
use super::body::{self, BODY_BYTES_MAX};
use super::content;
use super::error::ApiError;
use super::split::{Batch, Shape, split};
use super::verdict::{Reason, Verdicts, Wanted};
use crate::auth::Caller;
use crate::budget::Share;

/// How much is parsed before other requests on this thread get their turn.
const PARSED_BYTES_PER_TURN: usize = 256 << 10;

pub async fn submit(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, ApiError> {
    let started = Instant::now();
    let (head, mut body) = request.into_parts();
    let verdicts = gateway.submit(&head, &mut body).await;
    if verdicts.is_err() {
        body::discard(&head.headers, body).await;
    }
    gateway.metrics.submission_duration_seconds.observe(started.elapsed().as_secs_f64());
    let verdicts = verdicts?;
    if verdicts.accepted == 0 {
        return Err(ApiError::NoneAccepted(verdicts));
    }
    Ok((verdicts.status(), Json(verdicts)).into_response())
}

/// What became of an event before anything was waited for.
enum Taken {
    Rejected { event_id: Option<String>, reason: Reason },
    Queued { event_id: String, delivery: Delivery },
    NotQueued { event_id: String, error: PublishError },
}

impl Gateway {
    async fn submit(&self, head: &Parts, body: &mut Body) -> Result<Verdicts, ApiError> {
        let caller = self.access.authorize_writer(head).await?;
        let wanted = wanted(head.uri.query())?;
        let declared = content::declared(&head.headers)?;
        // Held until the answer: until then librdkafka has its own copy of the events.
        let mut share = self.budget.share();
        let bytes = self.read(head, body, &mut share).await?;
        let batch = split(&bytes, declared)?;
        let _turn = self.publisher.turn(batch.events.len(), bytes.len()).await;
        if !self.publisher.is_reachable() {
            return Err(ApiError::BrokerAway); // They may have gone while we waited.
        }
        let taken = self.publish(&batch, &caller).await?;
        drop(bytes);
        let verdicts = self.settle(taken, wanted).await;
        self.count(&verdicts);
        Ok(verdicts)
    }

    /// Refuses what would be in vain before it reads anything.
    async fn read(
        &self,
        head: &Parts,
        body: &mut Body,
        share: &mut Share,
    ) -> Result<Bytes, ApiError> {
        let length = content::length(&head.headers).unwrap_or(0);
        if length > BODY_BYTES_MAX as u64 {
            return Err(ApiError::BodyTooLarge);
        }
        if !self.publisher.is_reachable() {
            return Err(ApiError::BrokerAway);
        }
        if !self.budget.has_room_for(length as usize) {
            return Err(ApiError::Overloaded);
        }
        let bytes = body::read(&head.headers, body, share, self.body_time_max).await?;
        self.metrics.body_bytes_total.inc_by(bytes.len() as u64);
        Ok(bytes)
    }

    /// Parses and queues the events one after the other: they reach Kafka in their order.
    async fn publish(&self, batch: &Batch<'_>, caller: &Caller) -> Result<Vec<Taken>, ApiError> {
        let mut taken = Vec::with_capacity(batch.events.len());
        let mut canonical = Vec::new();
        let mut parsed_bytes = 0;
        for (index, bytes) in batch.events.iter().enumerate() {
            taken.push(match parse(bytes, caller, &mut canonical) {
                Ok(event) if !caller.may_act_for(&event.user_id) => Taken::Rejected {
                    event_id: given_id(bytes),
                    reason: user_mismatch(batch.shape, index),
                },
                Ok(event) => self.queue(event, &canonical),
                Err(invalid) if is_no_event_at_all(batch.shape, &invalid) => {
                    return Err(unreadable(&invalid));
                }
                Err(invalid) => Taken::Rejected {
                    event_id: given_id(bytes),
                    reason: reason(&invalid, batch.shape, index),
                },
            });
            parsed_bytes += bytes.len();
            if parsed_bytes >= PARSED_BYTES_PER_TURN {
                parsed_bytes = 0;
                tokio::task::yield_now().await;
            }
        }
        Ok(taken)
    }

    fn queue(&self, event: Event, canonical: &[u8]) -> Taken {
        let queued = self.publisher.publish(&event, canonical);
        let event_id = event.event_id;
        match queued {
            Ok(delivery) => Taken::Queued { event_id, delivery },
            Err(error) => Taken::NotQueued { event_id, error },
        }
    }

    /// Waits for every delivery; all of them are on their way already.
    async fn settle(&self, taken: Vec<Taken>, wanted: Wanted) -> Verdicts {
        let mut verdicts = Verdicts::new(wanted, taken.len());
        let mut refused = None;
        for event in taken {
            let (event_id, outcome) = match event {
                Taken::Rejected { event_id, reason } => {
                    verdicts.reject(event_id, reason);
                    continue;
                }
                Taken::Queued { event_id, delivery } => {
                    (event_id, self.publisher.delivered(delivery).await)
                }
                Taken::NotQueued { event_id, error } => (event_id, Err(error)),
            };
            match outcome {
                Ok(()) => verdicts.accept(event_id),
                Err(error) => {
                    let (code, detail) = retry_reason(&error);
                    verdicts.retry(event_id, code, detail);
                    if let PublishError::Refused(cause) = error {
                        refused = Some(cause);
                    }
                }
            }
        }
        if let Some(cause) = refused {
            error!(%cause, "the brokers refuse our records; clients are told to send again");
        }
        verdicts
    }

    fn count(&self, verdicts: &Verdicts) {
        let received = &self.metrics.events_received_total;
        for (verdict, events) in [
            ("accepted", verdicts.accepted),
            ("rejected", verdicts.rejected),
            ("retry", verdicts.retry),
        ] {
            if events > 0 {
                received.with_label_values(&[verdict]).inc_by(events as u64);
            }
        }
        for code in verdicts.rejected_codes() {
            self.metrics.events_rejected_total.with_label_values(&[code]).inc();
        }
    }
}

/// The only parameter of a submission besides the credential.
fn wanted(query: Option<&str>) -> Result<Wanted, ApiError> {
    let pairs = query.unwrap_or_default().split('&');
    let results = pairs.filter_map(|pair| pair.strip_prefix("results=")).next_back();
    match results {
        None | Some("all") => Ok(Wanted::All),
        Some("errors") => Ok(Wanted::Errors),
        Some(other) => Err(ApiError::InvalidQuery { found: other.to_owned() }),
    }
}

/// Leaves the canonical form in `canonical`. It may be larger than what was sent, and what the
/// processor would not read must not be accepted here.
fn parse(bytes: &[u8], caller: &Caller, canonical: &mut Vec<u8>) -> Result<Event, InvalidEvent> {
    const CANONICAL_BYTES_MAX: usize = EVENT_BYTES_MAX + REWRITE_BYTES_MAX;
    let now = Timestamp::now();
    let arrival = Arrival {
        received_at: now,
        now,
        source: "http",
        user: caller.confined_to.as_deref(),
        bytes_max: EVENT_BYTES_MAX,
    };
    let event = event::parse(bytes, &arrival, || Uuid::now_v7().to_string())?;
    canonical.clear();
    event.write_json(None, canonical);
    if canonical.len() > CANONICAL_BYTES_MAX {
        let bytes_max = CANONICAL_BYTES_MAX;
        return Err(InvalidEvent::TooLarge { bytes: canonical.len(), bytes_max });
    }
    Ok(event)
}

/// A body that is not even one event is the request's fault, not an event's.
fn is_no_event_at_all(shape: Shape, invalid: &InvalidEvent) -> bool {
    shape == Shape::Single
        && matches!(invalid, InvalidEvent::InvalidJson { .. } | InvalidEvent::InvalidUtf8 { .. })
}

fn unreadable(invalid: &InvalidEvent) -> ApiError {
    ApiError::Unreadable { code: invalid.code(), pointer: "", detail: invalid.to_string() }
}

fn reason(invalid: &InvalidEvent, shape: Shape, index: usize) -> Reason {
    Reason {
        code: invalid.code(),
        pointer: Some(shape.pointer(index, &invalid.pointer())),
        detail: invalid.to_string().into(),
    }
}

/// The token speaks for one user, the event of another.
fn user_mismatch(shape: Shape, index: usize) -> Reason {
    Reason {
        code: "user_mismatch",
        pointer: Some(shape.pointer(index, "/userId")),
        detail: "the token is for another user; leave `userId` out, or make it the token's `sub`"
            .into(),
    }
}

fn retry_reason(error: &PublishError) -> (&'static str, &'static str) {
    match error {
        PublishError::Full => {
            ("overloaded", "too much is waiting for Kafka; the event was not stored, send it again")
        }
        PublishError::Away(_) => (
            "broker_away",
            "Kafka did not confirm the event; it may be stored or not: send it again with this \
             eventId, and it counts once",
        ),
        PublishError::Refused(_) => (
            "broker_refused",
            "Kafka did not take the event, the operators are told; send it again with this eventId",
        ),
    }
}

/// Under which id a rejected event was sent, when it can be told: the client knows it by that.
fn given_id(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Given<'a> {
        #[serde(
            borrow,
            alias = "eventId",
            alias = "event_id",
            alias = "messageId",
            alias = "uuid",
            alias = "insert_id"
        )]
        id: &'a RawValue,
    }
    const ID_BYTES_MAX: usize = 256;
    let given = serde_json::from_slice::<Given<'_>>(bytes).ok()?;
    let id: String = serde_json::from_str(given.id.get()).ok()?;
    (id.len() <= ID_BYTES_MAX).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejected_event_is_named_by_the_id_it_was_sent_under() {
        assert_eq!(given_id(br#"{"eventId":"e-1"}"#).as_deref(), Some("e-1"));
        assert_eq!(given_id(br#"{"uuid":"e-\u0031","type":[[]]}"#).as_deref(), Some("e-1"));
        for unnamed in [&br#"{"eventId":{}}"#[..], br#"{"type":"like"}"#, b"[]", b"no json"] {
            assert_eq!(given_id(unnamed), None);
        }
    }

    #[test]
    fn the_results_asked_for_are_all_or_the_errors() {
        assert_eq!(wanted(None).unwrap(), Wanted::All);
        assert_eq!(wanted(Some("api_key=x&results=errors")).unwrap(), Wanted::Errors);
        assert!(wanted(Some("results=some")).is_err());
    }
}
