//! Safe retries: what is sent twice under one `Idempotency-Key` is done once and answered twice alike.
//!
//! The stored answers live in Redis and are a comfort: that nothing counts twice rests on the names
//! which a key gives to events that bring none, and needs no memory.

mod key;
mod room;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use fred::prelude::Client as RedisClient;
use fred::types::scripts::Script;
use http_body_util::BodyExt;
use tokio_util::task::TaskTracker;
use tracing::debug;
use uuid::Uuid;

pub use self::key::Names;
use self::key::{InvalidKey, Scope};
use self::room::{HOURS, Room};
use crate::auth::{Caller, Identity};
use crate::config::IdempotencyConfig;
use crate::metrics::GatewayMetrics;
use crate::quota::Meter;
use crate::redis::Impatient;

const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// How long a claim holds beyond the time in which Kafka has to answer.
const CLAIM_SPARE: Duration = Duration::from_secs(5);

const LIFETIME: Duration = Duration::from_secs(HOURS * 3_600);

/// Why a request under a key is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdempotencyError {
    #[error(
        "`Idempotency-Key` must be one text of 1 to 255 visible ASCII characters, bare or in double \
         quotes; a UUID is a good one"
    )]
    InvalidKey,
    #[error(
        "this `Idempotency-Key` was used for another body within the last 24 hours; use a new key \
         for a new request, and send a retry exactly as before"
    )]
    OtherRequest,
    #[error(
        "a request with this `Idempotency-Key` is being worked on; send the same again in a moment \
         and you get its answer"
    )]
    InFlight,
}

/// The answers of all instances.
pub struct Idempotency(Arc<Shared>);

struct Shared {
    redis: Impatient,
    claim: Script,
    store: Script,
    release: Script,
    claim_holds: Duration,
    answer_bytes_max: usize,
    room: Mutex<Room>,
    releases: TaskTracker,
    metrics: GatewayMetrics,
}

/// A request that has a key: travels in its extensions, and learns what is to become of its answer.
#[derive(Debug, Clone, Default)]
pub struct Attempt(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    scope: Option<Scope>,
    claim: Option<Claim>,
}

/// Ours to answer. Dropped without an answer, because its client has gone, it is given up.
struct Claim {
    shared: Arc<Shared>,
    scope: Scope,
    owner: Bytes,
    fingerprint: Bytes,
    is_settled: bool,
}

impl Idempotency {
    pub fn new(
        config: &IdempotencyConfig,
        delivery_timeout: Duration,
        redis: RedisClient,
        metrics: &GatewayMetrics,
    ) -> Self {
        let patience = Duration::from_millis(config.idempotency_redis_ms_max);
        Self(Arc::new(Shared {
            redis: Impatient::new(redis, patience),
            claim: Script::from_lua(include_str!("claim.lua")),
            store: Script::from_lua(include_str!("store.lua")),
            release: Script::from_lua(include_str!("release.lua")),
            claim_holds: delivery_timeout + CLAIM_SPARE,
            answer_bytes_max: config.idempotency_answer_kib_max << 10,
            room: Mutex::new(Room::new(config.idempotency_mib_max << 20)),
            releases: TaskTracker::new(),
            metrics: metrics.clone(),
        }))
    }

    /// The stored answer, if this request was answered before; else it is ours to answer. Without
    /// Redis it is so in any case.
    pub async fn begin(
        &self,
        head: &Parts,
        caller: &Caller,
        body: &[u8],
    ) -> Result<Option<Response>, IdempotencyError> {
        let Some(attempt) = head.extensions.get::<Attempt>() else { return Ok(None) };
        let key = key::read(&head.headers).map_err(|InvalidKey| IdempotencyError::InvalidKey)?;
        let Some(key) = key else { return Ok(None) };
        let scope = Scope::new(&credential(head, caller), head.uri.path(), &key);
        attempt.state().scope = Some(scope);
        let claim = Claim {
            shared: self.0.clone(),
            scope,
            owner: Bytes::copy_from_slice(Uuid::new_v4().as_bytes()),
            fingerprint: Bytes::copy_from_slice(&key::fingerprint(&head.headers, body)),
            is_settled: false,
        };
        match Box::pin(claim.make()).await {
            Found::Nothing(claim) => {
                attempt.state().claim = Some(claim);
                Ok(None)
            }
            Found::Answer(response) => Ok(Some(response)),
            Found::Refusal(error) => Err(error),
        }
    }
}

enum Found {
    Nothing(Claim),
    Answer(Response),
    Refusal(IdempotencyError),
}

impl Claim {
    async fn make(mut self) -> Found {
        let shared = self.shared.clone();
        let holds = Bytes::from(shared.claim_holds.as_millis().to_string());
        let arguments = vec![self.owner.clone(), self.fingerprint.clone(), holds];
        let answer: Option<Vec<Bytes>> =
            shared.redis.call(&shared.claim, self.scope.redis_key(), arguments).await.ok();
        let mut answer = answer.unwrap_or_default().into_iter();
        let verdict = answer.next().unwrap_or_default();
        let outcome = match &verdict[..] {
            b"claimed" => "first",
            b"running" => "in_flight",
            b"other" => "other_request",
            b"answered" => "replayed",
            _ => "unclaimed",
        };
        shared.metrics.idempotent_requests_total.with_label_values(&[outcome]).inc();
        let found = match outcome {
            "in_flight" => Found::Refusal(IdempotencyError::InFlight),
            "other_request" => Found::Refusal(IdempotencyError::OtherRequest),
            _ => match answer.next().and_then(|stored| replay(&stored)) {
                Some(response) => Found::Answer(response),
                // Also when Redis was late: it may have entered our claim all the same.
                None => return Found::Nothing(self),
            },
        };
        self.is_settled = true;
        found
    }

    async fn store(mut self, answer: Bytes) -> &'static str {
        self.is_settled = true;
        let shared = &*self.shared;
        if answer.len() > shared.answer_bytes_max {
            self.release().await;
            return "too_large";
        }
        let hour =
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 3_600;
        if !shared.room().take(hour, answer.len() as u64) {
            self.release().await;
            return "no_room";
        }
        let lifetime = Bytes::from(LIFETIME.as_millis().to_string());
        let arguments = vec![self.owner.clone(), self.fingerprint.clone(), answer, lifetime];
        let stored = shared.redis.call(&shared.store, self.scope.redis_key(), arguments).await;
        if stored.is_ok_and(|stored: i64| stored == 1) { "stored" } else { "lost" }
    }

    async fn give_up(mut self) -> &'static str {
        self.is_settled = true;
        self.release().await;
        "released"
    }

    async fn release(&self) {
        let shared = &*self.shared;
        let arguments = vec![self.owner.clone()];
        let released: Result<i64, _> =
            shared.redis.call(&shared.release, self.scope.redis_key(), arguments).await;
        if released.is_err() {
            debug!("a claim stays until it runs out");
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        let claim = Self {
            shared: self.shared.clone(),
            scope: self.scope,
            owner: self.owner.clone(),
            fingerprint: self.fingerprint.clone(),
            is_settled: true,
        };
        self.shared.releases.spawn(async move { claim.release().await });
    }
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claim").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl Shared {
    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt {
    /// For a request that has a key.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        headers.contains_key(key::HEADER).then(Self::default)
    }

    /// What names the events of the request with this head.
    pub fn names(head: &Parts) -> Names {
        Names(head.extensions.get::<Self>().and_then(|attempt| attempt.state().scope))
    }

    /// Keeps an answer that is worth it: not one that tells to send again.
    pub async fn settle(&self, response: Response) -> Response {
        let Some(claim) = self.state().claim.take() else { return response };
        let metrics = claim.shared.metrics.clone();
        let (head, body) = response.into_parts();
        // Ready in memory: no answer to a submission is a stream.
        let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
            return Response::from_parts(head, Body::empty());
        };
        let outcome = if is_final(head.status) && !tells_to_send_again(&body) {
            claim.store(entry(head.status, &head.headers, &body)).await
        } else {
            claim.give_up().await
        };
        metrics.idempotent_answers_total.with_label_values(&[outcome]).inc();
        Response::from_parts(head, Body::from(body))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Within whose requests a key is unique.
fn credential(head: &Parts, caller: &Caller) -> String {
    match (caller.identity, Meter::of(head)) {
        // Strangers have nothing in common but where they come from.
        (Identity::Anonymous, Some(meter)) => format!("{}:{}", caller.identity, meter.client()),
        _ => caller.identity.to_string(),
    }
}

fn is_final(status: StatusCode) -> bool {
    !status.is_server_error()
        && !matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS
        )
}

/// Whether some of the events are to be sent again: all of them may be, they have the same names.
fn tells_to_send_again(verdicts: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Verdicts {
        #[serde(default)]
        retry: u64,
    }
    serde_json::from_slice::<Verdicts>(verdicts).is_ok_and(|verdicts| verdicts.retry > 0)
}

/// Status, type and body in one text: `202 application/json`, a line feed, the body.
fn entry(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Bytes {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    [status.as_str().as_bytes(), b" ", content_type, b"\n", body].concat().into()
}

fn replay(entry: &Bytes) -> Option<Response> {
    let end = memchr::memchr(b'\n', entry)?;
    let (status, content_type) = entry[..end].split_at_checked(3)?;
    let mut response = Response::new(Body::from(entry.slice(end + 1..)));
    *response.status_mut() = StatusCode::from_bytes(status).ok()?;
    let content_type = HeaderValue::from_bytes(content_type.strip_prefix(b" ")?).ok()?;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_back_as_it_was() {
        let headers = HeaderMap::from_iter([(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        )]);
        let stored = entry(StatusCode::UNPROCESSABLE_ENTITY, &headers, b"{\n}");
        let replayed = replay(&stored).unwrap();
        assert_eq!(replayed.status(), 422);
        assert_eq!(replayed.headers()["content-type"], "application/problem+json");
        assert_eq!(replayed.headers()["idempotent-replayed"], "true");
        assert!(replay(&Bytes::from_static(b"nonsense")).is_none());
    }

    #[test]
    fn only_an_answer_that_asks_for_nothing_more_is_kept() {
        assert!(is_final(StatusCode::ACCEPTED) && is_final(StatusCode::UNPROCESSABLE_ENTITY));
        for status in [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS] {
            assert!(!is_final(status));
        }
        assert!(tells_to_send_again(br#"{"accepted":1,"rejected":0,"retry":1,"results":[]}"#));
        assert!(!tells_to_send_again(br#"{"accepted":1,"rejected":0,"retry":0,"results":[]}"#));
        assert!(!tells_to_send_again(b"no json"));
    }
}
