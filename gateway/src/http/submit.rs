//! Takes a request's events, whatever its surface: credential, body, events, Kafka; one verdict each.

use std::time::Instant;

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::response::Response;
use bytes::Bytes;
use common::event::{self, Arrival, EVENT_BYTES_MAX, Event, InvalidEvent, REWRITE_BYTES_MAX};
use common::kafka::{Delivery, PublishError};
use jiff::Timestamp;
use tracing::error;

use super::Gateway;
use super::body::{self, BODY_BYTES_MAX};
use super::content;
use super::error::ApiError;
use super::split::Shape;
use super::surface::{self, Door, Submission, Surface};
use super::verdict::{Reason, Verdicts, Wanted};
use super::way::Way;
use crate::auth::{Access, Caller, Right};
use crate::budget::Share;
use crate::idempotency::{Attempt, Names};
use crate::publisher::Origin;

/// How much is parsed before other requests on this thread get their turn.
const PARSED_BYTES_PER_TURN: usize = 256 << 10;

pub async fn submit(gateway: &Gateway, door: Door, request: Request) -> Response {
    let started = Instant::now();
    let (head, mut body) = request.into_parts();
    let mut surface = door.surface();
    let way = Way::begin(&head.headers);
    let answer = gateway.submit(door, &head, &mut body, &mut surface, &way).await;
    if answer.is_err() {
        Box::pin(body::discard(&head.headers, body)).await;
    }
    gateway.metrics.submission_duration_seconds.observe(started.elapsed().as_secs_f64());
    let answer = answer.unwrap_or_else(|error| surface.refuse(error));
    way.end(answer.status());
    answer
}

/// What became of an event before anything was waited for.
enum Taken {
    Rejected(Refused),
    /// On its way to Kafka; where it was refused, to the dead letters.
    Sent {
        event_id: String,
        queued: Result<Delivery, PublishError>,
        refused: Option<Reason>,
    },
}

/// Who sends, and what names events that bring neither an id nor a time.
#[derive(Clone, Copy)]
struct Sender<'a> {
    caller: &'a Caller,
    names: Names,
}

/// What cannot be an event.
struct Refused {
    event_id: Option<String>,
    reason: Reason,
}

impl Gateway {
    /// `surface` is who is told, which some bodies alone say.
    async fn submit(
        &self,
        door: Door,
        head: &Parts,
        body: &mut Body,
        surface: &mut Surface,
        way: &Way,
    ) -> Result<Response, ApiError> {
        let known = self.admit(door, head).await?;
        door.check(head)?;
        // Held until the answer: until then librdkafka has its own copy of the events.
        let mut share = match known {
            Some(_) => self.budget.share(),
            None => self.budget.share_of_stranger(),
        };
        let bytes = self.read(door, head, body, &mut share).await?;
        let submission = door
            .open(head, &bytes, known.as_ref(), self.clock_skew)
            .inspect_err(|_| *surface = door.surface_of(&bytes))?;
        *surface = submission.surface;
        let caller = match known {
            Some(caller) => caller,
            None => self.admit_by_body(head, &submission).await?,
        };
        share.introduce();
        if door == Door::Validation {
            return surface::answer_validation(
                Box::pin(self.validate(&submission, &caller)).await?,
            );
        }
        if door.is_native()
            && let Some(answer) = self.idempotency.begin(head, &caller, &bytes).await?
        {
            return Ok(answer);
        }
        self.charge_events(head, submission.events.len()).await?;
        let sender = Sender { caller: &caller, names: Attempt::names(head) };
        let _turn = self.publisher.turn(submission.events.len(), bytes.len()).await;
        if !self.publisher.is_reachable() {
            return Err(ApiError::BrokerAway); // They may have gone while we waited.
        }
        let origin = Origin { surface: surface.name(), headers: way.headers() };
        let taken = self.publish(&submission, sender, &origin).await?;
        let (wanted, body_bytes) = (submission.wanted, bytes.len());
        drop(submission);
        drop(bytes);
        let verdicts = self.settle(taken, wanted).await;
        self.count(&verdicts);
        surface.answer(verdicts, body_bytes)
    }

    /// Who sends, unless only the body can say so.
    async fn admit(&self, door: Door, head: &Parts) -> Result<Option<Caller>, ApiError> {
        let caller = if door == Door::Native {
            self.access.authorize_writer(head).await?
        } else if door.is_native() || Access::is_named_in(head) {
            self.access.authorize(head, Right::Write).await?
        } else {
            return Ok(None);
        };
        self.charge_bringer(head, &caller).await?;
        Ok(Some(caller))
    }

    async fn admit_by_body(
        &self,
        head: &Parts,
        submission: &Submission<'_>,
    ) -> Result<Caller, ApiError> {
        let caller = match &submission.key {
            Some(key) => self.access.authorize_secret(key, Right::Write).await?,
            None => self.access.authorize(head, Right::Write).await?,
        };
        self.charge_bringer(head, &caller).await?;
        Ok(caller)
    }

    /// Refuses what would be in vain before it reads anything.
    async fn read(
        &self,
        door: Door,
        head: &Parts,
        body: &mut Body,
        share: &mut Share,
    ) -> Result<Bytes, ApiError> {
        let length = content::length(&head.headers).unwrap_or(0);
        if length > BODY_BYTES_MAX as u64 {
            return Err(ApiError::BodyTooLarge);
        }
        if door != Door::Validation && !self.publisher.is_reachable() {
            return Err(ApiError::BrokerAway);
        }
        if !share.has_room_for(length as usize) {
            return Err(ApiError::Overloaded);
        }
        let bytes = body::read(door.encoding(head)?, body, share, self.body_time_max).await?;
        self.metrics.body_bytes_total.inc_by(bytes.len() as u64);
        door.unwrap(bytes)
    }

    /// Parses and queues the events one after the other: they reach Kafka in their order.
    async fn publish(
        &self,
        submission: &Submission<'_>,
        sender: Sender<'_>,
        origin: &Origin,
    ) -> Result<Vec<Taken>, ApiError> {
        let mut taken = Vec::with_capacity(submission.events.len());
        let mut canonical = Vec::new();
        let mut turn = Turn::default();
        for (index, bytes) in submission.events.iter().enumerate() {
            taken.push(match judge(submission, index, sender, &mut canonical)? {
                Ok(event) => {
                    let queued = self.publisher.publish(&event, &canonical, origin);
                    Taken::Sent { event_id: event.event_id.into(), queued, refused: None }
                }
                Err(refused) if submission.surface == Surface::Native => Taken::Rejected(refused),
                Err(refused) => {
                    let kept = event::blank_credentials(submission.format, bytes);
                    self.queue_refused(&kept, refused, origin)
                }
            });
            turn.spend(bytes.len()).await;
        }
        Ok(taken)
    }

    /// Its client would lose the good events of the batch with it, so it is told nothing.
    fn queue_refused(&self, bytes: &[u8], refused: Refused, origin: &Origin) -> Taken {
        let Refused { event_id, reason } = refused;
        let queued = self.publisher.publish_refused(bytes, reason.code, &reason.detail, origin);
        Taken::Sent { event_id: event_id.unwrap_or_default(), queued, refused: Some(reason) }
    }

    /// The verdicts of a submission of which nothing is stored.
    async fn validate(
        &self,
        submission: &Submission<'_>,
        caller: &Caller,
    ) -> Result<Verdicts, ApiError> {
        let mut verdicts = Verdicts::new(submission.wanted, submission.events.len());
        let sender = Sender { caller, names: Names::default() };
        let mut canonical = Vec::new();
        let mut turn = Turn::default();
        for (index, bytes) in submission.events.iter().enumerate() {
            match judge(submission, index, sender, &mut canonical)? {
                Ok(event) => {
                    canonical.clear();
                    event.write_json(Some(Timestamp::now()), &mut canonical);
                    let json = serde_json::from_slice(&canonical).expect("it was written as JSON");
                    verdicts.find_valid(event.event_id.into(), json);
                }
                Err(refused) => verdicts.reject(refused.event_id, refused.reason),
            }
            turn.spend(bytes.len()).await;
        }
        Ok(verdicts)
    }

    /// Waits for every delivery; all of them are on their way already.
    async fn settle(&self, taken: Vec<Taken>, wanted: Wanted) -> Verdicts {
        let mut verdicts = Verdicts::new(wanted, taken.len());
        let mut failure = None;
        for event in taken {
            let (event_id, queued, refused) = match event {
                Taken::Rejected(Refused { event_id, reason }) => {
                    verdicts.reject(event_id, reason);
                    continue;
                }
                Taken::Sent { event_id, queued, refused } => (event_id, queued, refused),
            };
            let outcome = match queued {
                Ok(delivery) => self.publisher.delivered(delivery).await,
                Err(error) => Err(error),
            };
            match (outcome, refused) {
                (Ok(()), None) => verdicts.accept(event_id),
                (Ok(()), Some(reason)) => verdicts.reject(Some(event_id), reason),
                (Err(error), _) => {
                    let (code, detail) = retry_reason(&error);
                    verdicts.retry(event_id, code, detail);
                    if let PublishError::Refused(cause) = error {
                        failure = Some(cause);
                    }
                }
            }
        }
        if let Some(cause) = failure {
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

/// Lets other requests on this thread have their turn now and then.
#[derive(Default)]
struct Turn {
    parsed_bytes: usize,
}

impl Turn {
    async fn spend(&mut self, bytes: usize) {
        self.parsed_bytes += bytes;
        if self.parsed_bytes >= PARSED_BYTES_PER_TURN {
            self.parsed_bytes = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// The event at `index`, its canonical form left in `canonical`, or why it is none.
fn judge(
    submission: &Submission<'_>,
    index: usize,
    sender: Sender<'_>,
    canonical: &mut Vec<u8>,
) -> Result<Result<Event, Refused>, ApiError> {
    let bytes = &submission.events[index];
    let table = submission.table.as_ref();
    let located = |reason| match table {
        Some(table) => table.located(index, reason),
        None => reason,
    };
    if let Some(broken) = table.and_then(|table| table.broken(index)) {
        return Ok(Err(Refused { event_id: None, reason: located(broken) }));
    }
    let reason = match parse(submission, index, sender, canonical) {
        Ok(event) if sender.caller.may_act_for(&event.user_id) => return Ok(Ok(event)),
        Ok(_) => user_mismatch(submission.shape, index),
        Err(invalid) if is_no_event_at_all(submission.shape, &invalid) => {
            return Err(unreadable(&invalid));
        }
        Err(invalid) => reason(&invalid, submission.shape, index),
    };
    Ok(Err(Refused {
        event_id: event::given_id(submission.format, bytes),
        reason: located(reason),
    }))
}

/// Leaves the canonical form in `canonical`. It may be larger than what was sent, and what the
/// processor would not read must not be accepted here.
fn parse(
    submission: &Submission<'_>,
    index: usize,
    sender: Sender<'_>,
    canonical: &mut Vec<u8>,
) -> Result<Event, InvalidEvent> {
    const CANONICAL_BYTES_MAX: usize = EVENT_BYTES_MAX + REWRITE_BYTES_MAX;
    let now = Timestamp::now();
    let arrival = Arrival {
        received_at: now,
        now,
        source: submission.surface.name(),
        user: sender.caller.confined_to.as_deref(),
        bytes_max: EVENT_BYTES_MAX,
    };
    let unnamed = || sender.names.of(index);
    let bytes = &submission.events[index];
    let event = event::parse_as(submission.format, bytes, &arrival, unnamed)?;
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
