//! The one table from error to answer: status, code, and a sentence that says what to do (RFC 9457).

use std::borrow::Cow;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::body::{BODY_BYTES_MAX, DECOMPRESSED_BYTES_MAX};
use super::split::EVENTS_MAX;
use super::surface::AmplitudeRefusal;
use super::verdict::{Verdicts, VerdictsIfAny};
use crate::auth::AuthError;
use crate::idempotency::IdempotencyError;
use crate::push::InvalidCursor;
use crate::quota::QuotaError;
use crate::stats::StatsError;

/// Everything that is answered with a problem document. `Display` is its `detail`.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error(
        "there is nothing under this path; events go to POST /api/events, POST /product_events/ or \
         POST /api-fast/view-event"
    )]
    NotFound,
    #[error(
        "the request's head is not HTTP/1.1; look for blanks, line breaks and other bytes that do \
         not belong into its first line and headers"
    )]
    UnreadableHead,
    #[error(
        "the request's head has more than {} KiB or 100 headers; send fewer or shorter ones, \
         cookies above all", bytes_max >> 10
    )]
    HeadTooLarge { bytes_max: usize },
    #[error("{method} does nothing here; the header `Allow` names what does")]
    MethodNotAllowed { method: Method },
    #[error("{0}")]
    Auth(#[from] AuthError),
    #[error("{0}")]
    Quota(#[from] QuotaError),
    #[error("{0}")]
    Idempotency(#[from] IdempotencyError),
    #[error("`results` is {found:?}; it can be `all` (the default) or `errors`")]
    InvalidQuery { found: String },
    #[error(
        "events of the type {found:?} cannot be read here; send JSON (application/json), one JSON \
         object per line (application/x-ndjson) or a table (text/csv)"
    )]
    UnsupportedMediaType { found: String },
    #[error("the encoding {found:?} cannot be read here; send gzip, deflate, zstd or no encoding")]
    UnsupportedEncoding { found: String },
    #[error("the body is empty; send a JSON object, an array of them, or one per line")]
    EmptyBody,
    #[error("the batch holds no event; leave out the request when there is nothing to send")]
    EmptyBatch,
    #[error("{detail}")]
    Unreadable { code: &'static str, pointer: &'static str, detail: String },
    #[error("the body is not valid {encoding}: {reason}")]
    BrokenCompression { encoding: &'static str, reason: String },
    #[error("the request ended in the middle of its body")]
    IncompleteBody,
    #[error("the body did not arrive within {seconds} s; send smaller batches, or faster")]
    BodyTimeout { seconds: u64 },
    #[error(
        "the body has more than {} MiB; split the batch, or compress it (up to {} MiB decompressed)",
        BODY_BYTES_MAX >> 20, DECOMPRESSED_BYTES_MAX >> 20
    )]
    BodyTooLarge,
    #[error("the body has more than {} MiB when decompressed; split the batch", DECOMPRESSED_BYTES_MAX >> 20)]
    DecompressedTooLarge,
    #[error("the batch has {count} events, at most {EVENTS_MAX} are taken; split it")]
    TooManyEvents { count: usize },
    #[error("{detail}")]
    InvalidImport { detail: String },
    #[error("the file has more than {} MiB; compress it, or split it", bytes_max >> 20)]
    ImportTooLarge { bytes_max: u64 },
    #[error(
        "no import of yours has this id; POST /api/imports answers with the address of the job it made"
    )]
    NoSuchImport,
    #[error("the disk for uploads is full or cannot be written; the operators are told")]
    NoSpace,
    #[error(
        "imports cannot be written down or looked up at the moment; send the same again shortly"
    )]
    ImportsAway,
    #[error("no key has this id; GET /api/keys lists them all")]
    UnknownKey,
    #[error(
        "this is the last admin key in force, without which nobody could make another; make one \
         first (POST /api/keys), or revoke it with `gateway keys revoke`"
    )]
    LastAdminKey,
    #[error("this key is not in force, or has a successor already; GET /api/keys shows which")]
    NotRotatable,
    #[error("Postgres cannot be reached at the moment; send the same again")]
    StoreAway,
    #[error("Kafka cannot be reached at the moment; nothing was stored, send the same again")]
    BrokerAway,
    #[error("{detail}")]
    UnusableParameter { detail: String },
    #[error("{0}")]
    Stats(#[from] StatsError),
    #[error("{0}")]
    InvalidCursor(#[from] InvalidCursor),
    #[error(
        "this is a WebSocket ({reason}); connect with a WebSocket client to ws://, or read the same \
         as server-sent events under /api/notifications/stream"
    )]
    UpgradeRequired { reason: String },
    #[error("as many sockets are open as this gateway takes; connect again shortly")]
    TooManySockets,
    #[error(
        "the stream cannot be read at the moment; connect again shortly, with the last cursor \
         nothing is missed"
    )]
    StreamUnavailable,
    #[error("as many exports are on their way as this gateway makes at a time; ask again shortly")]
    TooManyExports,
    #[error("too much is being received at the moment; nothing was stored, send the same again")]
    Overloaded,
    /// Of a client that can only send all of it again.
    #[error("{} of {} events are not known to be stored; send the same again, each counts once", .0.retry, .0.len())]
    NotAllStored(Verdicts),
    /// Every event had a verdict, and none was accepted.
    #[error("{}", .0.summary())]
    NoneAccepted(Verdicts),
}

impl ApiError {
    fn status(&self) -> StatusCode {
        match self {
            Self::InvalidQuery { .. }
            | Self::UnusableParameter { .. }
            | Self::InvalidCursor(_)
            | Self::Stats(StatsError::Unusable(_))
            | Self::Idempotency(IdempotencyError::InvalidKey)
            | Self::EmptyBody
            | Self::EmptyBatch
            | Self::Unreadable { .. }
            | Self::BrokenCompression { .. }
            | Self::InvalidImport { .. }
            | Self::UnreadableHead
            | Self::IncompleteBody => StatusCode::BAD_REQUEST,
            Self::HeadTooLarge { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Auth(AuthError::LacksRight { .. }) => StatusCode::FORBIDDEN,
            Self::Auth(AuthError::Unavailable) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Auth(_) => StatusCode::UNAUTHORIZED,
            Self::NotFound | Self::NoSuchImport | Self::UnknownKey => StatusCode::NOT_FOUND,
            Self::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
            Self::ImportTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ImportsAway => StatusCode::SERVICE_UNAVAILABLE,
            Self::Quota(QuotaError::Exhausted(_)) => StatusCode::TOO_MANY_REQUESTS,
            Self::Idempotency(IdempotencyError::OtherRequest) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Idempotency(IdempotencyError::InFlight) => StatusCode::CONFLICT,
            Self::LastAdminKey | Self::NotRotatable => StatusCode::CONFLICT,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimeout { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge
            | Self::DecompressedTooLarge
            | Self::TooManyEvents { .. }
            | Self::Quota(QuotaError::Unaffordable { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType { .. } | Self::UnsupportedEncoding { .. } => {
                StatusCode::UNSUPPORTED_MEDIA_TYPE
            }
            Self::NoneAccepted(verdicts) => verdicts.status(),
            Self::UpgradeRequired { .. } => StatusCode::UPGRADE_REQUIRED,
            Self::StoreAway
            | Self::Stats(StatsError::TooSlow | StatsError::Away)
            | Self::BrokerAway
            | Self::Overloaded
            | Self::NotAllStored(_)
            | Self::TooManySockets
            | Self::TooManyExports
            | Self::StreamUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Stable: clients and dashboards match on it, `/docs/errors/{code}` explains it.
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::UnreadableHead => "unreadable_head",
            Self::HeadTooLarge { .. } => "head_too_large",
            Self::InvalidImport { .. } => "invalid_import",
            Self::ImportTooLarge { .. } => "import_too_large",
            Self::NoSuchImport => "no_such_import",
            Self::NoSpace => "no_space",
            Self::ImportsAway => "imports_away",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::Auth(error) => error.code(),
            Self::InvalidQuery { .. }
            | Self::UnusableParameter { .. }
            | Self::Stats(StatsError::Unusable(_)) => "invalid_query",
            Self::Stats(StatsError::TooSlow) => "answer_too_slow",
            Self::InvalidCursor(_) => "invalid_cursor",
            Self::UpgradeRequired { .. } => "upgrade_required",
            Self::TooManySockets => "too_many_sockets",
            Self::TooManyExports => "too_many_exports",
            Self::StreamUnavailable => "stream_unavailable",
            Self::Quota(QuotaError::Exhausted(_)) => "rate_limited",
            Self::Quota(QuotaError::Unaffordable { .. }) => "batch_exceeds_limit",
            Self::Idempotency(IdempotencyError::InvalidKey) => "invalid_idempotency_key",
            Self::Idempotency(IdempotencyError::OtherRequest) => "idempotency_key_reused",
            Self::Idempotency(IdempotencyError::InFlight) => "request_in_flight",
            Self::UnsupportedMediaType { .. } => "unsupported_media_type",
            Self::UnsupportedEncoding { .. } => "unsupported_encoding",
            Self::EmptyBody => "empty_body",
            Self::EmptyBatch => "empty_batch",
            Self::Unreadable { code, .. } => code,
            Self::BrokenCompression { .. } => "broken_compression",
            Self::IncompleteBody => "incomplete_body",
            Self::BodyTimeout { .. } => "body_timeout",
            Self::BodyTooLarge | Self::DecompressedTooLarge => "body_too_large",
            Self::TooManyEvents { .. } => "too_many_events",
            Self::UnknownKey => "unknown_key",
            Self::LastAdminKey => "last_admin_key",
            Self::NotRotatable => "not_rotatable",
            Self::StoreAway | Self::Stats(StatsError::Away) => "postgres_away",
            Self::BrokerAway => "broker_away",
            Self::Overloaded => "overloaded",
            Self::NoneAccepted(verdicts) | Self::NotAllStored(verdicts) => verdicts.code(),
        }
    }

    fn title(&self) -> &'static str {
        match self {
            Self::NotFound | Self::UnknownKey => "Nothing here",
            Self::UnreadableHead => "The head cannot be read",
            Self::HeadTooLarge { .. } => "The head is too large",
            Self::InvalidImport { .. } => "The file cannot be imported",
            Self::ImportTooLarge { .. } => "The file is too large",
            Self::NoSuchImport => "No such import",
            Self::NoSpace => "There is no room for the file",
            Self::ImportsAway => "Try again shortly",
            Self::MethodNotAllowed { .. } => "Method not allowed",
            Self::Auth(AuthError::LacksRight { .. }) => "The credential lacks a right",
            Self::Auth(AuthError::Unavailable) => "The credential cannot be checked now",
            Self::Auth(_) => "A valid credential is needed",
            Self::InvalidQuery { .. }
            | Self::UnusableParameter { .. }
            | Self::Stats(StatsError::Unusable(_)) => "A query parameter cannot be used",
            Self::Stats(StatsError::TooSlow) => "The answer takes too long",
            Self::InvalidCursor(_) => "The cursor cannot be used",
            Self::UpgradeRequired { .. } => "A WebSocket is needed",
            Self::Quota(QuotaError::Exhausted(_)) => "Too much in too short a time",
            Self::Idempotency(IdempotencyError::InFlight) => "The same request is being worked on",
            Self::Idempotency(_) => "The idempotency key cannot be used",
            Self::UnsupportedMediaType { .. } => "Unsupported media type",
            Self::UnsupportedEncoding { .. } => "Unsupported content encoding",
            Self::EmptyBody | Self::EmptyBatch => "Nothing to do",
            Self::Unreadable { .. } | Self::BrokenCompression { .. } | Self::IncompleteBody => {
                "The body cannot be read"
            }
            Self::BodyTimeout { .. } => "The body took too long",
            Self::BodyTooLarge
            | Self::DecompressedTooLarge
            | Self::TooManyEvents { .. }
            | Self::Quota(QuotaError::Unaffordable { .. }) => "The request is too large",
            Self::LastAdminKey | Self::NotRotatable => "The key cannot be changed so",
            Self::StoreAway
            | Self::Stats(StatsError::Away)
            | Self::BrokerAway
            | Self::Overloaded
            | Self::NotAllStored(_)
            | Self::TooManySockets
            | Self::TooManyExports
            | Self::StreamUnavailable => "Try again shortly",
            Self::NoneAccepted(verdicts) => verdicts.title(),
        }
    }

    /// Where in the body the trouble is, when it is in the body.
    fn pointer(&self) -> Option<&'static str> {
        match self {
            Self::Unreadable { pointer, .. } => Some(pointer),
            Self::EmptyBody | Self::EmptyBatch | Self::TooManyEvents { .. } => Some(""),
            _ => None,
        }
    }

    fn headers(&self) -> HeaderMap {
        let (name, value): (HeaderName, HeaderValue) = match self {
            Self::Auth(error) if self.status() == StatusCode::UNAUTHORIZED => {
                (header::WWW_AUTHENTICATE, HeaderValue::from_static(error.challenge()))
            }
            Self::UnsupportedMediaType { .. } => (
                header::ACCEPT,
                HeaderValue::from_static("application/json, application/x-ndjson, text/csv"),
            ),
            Self::UnsupportedEncoding { .. } => {
                (header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate, zstd"))
            }
            Self::UpgradeRequired { .. } => {
                (header::UPGRADE, HeaderValue::from_static("websocket"))
            }
            Self::Quota(error) => match error.retry_after() {
                Some(seconds) => (header::RETRY_AFTER, seconds.into()),
                None => return HeaderMap::new(),
            },
            Self::BrokerAway => (header::RETRY_AFTER, HeaderValue::from_static("2")),
            _ if matches!(self.status().as_u16(), 408 | 409 | 503) => {
                (header::RETRY_AFTER, HeaderValue::from_static("1"))
            }
            _ => return HeaderMap::new(),
        };
        HeaderMap::from_iter([(name, value)])
    }

    fn items(&self) -> Vec<Item> {
        let one = || Item {
            code: self.code(),
            pointer: self.pointer().map(Cow::Borrowed),
            detail: self.to_string(),
        };
        match self {
            Self::NoneAccepted(verdicts) => verdicts.errors().take(ITEMS_MAX).collect(),
            _ => vec![one()],
        }
    }
}

/// `errors` is for people; `results` has all of a long batch.
const ITEMS_MAX: usize = 20;

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        let problem = Problem {
            status: status.as_u16(),
            code: self.code(),
            title: self.title(),
            detail: self.to_string(),
            errors: self.items(),
            headers: self.headers(),
            verdicts: match self {
                Self::NoneAccepted(verdicts) => Some(verdicts),
                _ => None,
            },
        };
        let mut response = (status, problem.headers.clone()).into_response();
        response.extensions_mut().insert(problem);
        response
    }
}

/// How a client wants to be told; beside the problem in the response's extensions.
#[derive(Debug, Clone, Copy, Default)]
pub enum Dialect {
    #[default]
    Problem,
    /// By a number in the body.
    Amplitude,
}

/// A problem document but for its request id: travels in the response's extensions until `finish`.
#[derive(Debug, Clone)]
pub struct Problem {
    status: u16,
    pub code: &'static str,
    title: &'static str,
    detail: String,
    errors: Vec<Item>,
    headers: HeaderMap,
    verdicts: Option<Verdicts>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Item {
    pub code: &'static str,
    /// Into the request's body (RFC 6901).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub pointer: Option<Cow<'static, str>>,
    pub detail: String,
}

/// What is wrong and what to do (RFC 9457), with members of our own.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProblemDocument<'a> {
    /// The page of its code.
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    instance: &'a str,
    /// Stable; explained under its `type`.
    code: &'a str,
    /// The same as `detail`, under the name that some SDKs look for.
    message: &'a str,
    request_id: &'a str,
    errors: &'a [Item],
    #[serde(flatten)]
    #[schema(value_type = VerdictsIfAny)]
    verdicts: Option<&'a Verdicts>,
}

impl Problem {
    /// The document and its type.
    pub fn render(
        &self,
        dialect: Dialect,
        instance: &str,
        request_id: &str,
    ) -> (Vec<u8>, &'static str) {
        match dialect {
            Dialect::Problem => (self.document(instance, request_id), "application/problem+json"),
            Dialect::Amplitude => (self.refusal(request_id), "application/json"),
        }
    }

    fn refusal(&self, request_id: &str) -> Vec<u8> {
        let refusal = AmplitudeRefusal { code: self.status, error: &self.detail, request_id };
        serde_json::to_vec(&refusal).expect("texts and numbers are JSON")
    }

    fn document(&self, instance: &str, request_id: &str) -> Vec<u8> {
        let document = ProblemDocument {
            r#type: format!("/docs/errors/{}", self.code),
            title: self.title,
            status: self.status,
            detail: &self.detail,
            instance,
            code: self.code,
            message: &self.detail,
            request_id,
            errors: &self.errors,
            verdicts: self.verdicts.as_ref(),
        };
        serde_json::to_vec(&document).expect("texts and numbers are JSON")
    }
}
