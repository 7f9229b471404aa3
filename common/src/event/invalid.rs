//! The reasons why bytes are not an event: each has a stable code, a place and a sentence that says what to do.

use super::DEPTH_MAX;

/// `Display` is the detail for people; it never repeats what the event holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    #[error("the record has no value; send one JSON object")]
    NullValue,
    #[error("there is nothing to read; send one JSON object")]
    Empty,
    #[error("the event is {bytes} bytes, at most {bytes_max} are taken; send less in it")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error(
        "the value is in a schema registry's wire format; send JSON without the five-byte prefix"
    )]
    SchemaRegistryUnsupported,
    #[error("byte {at} is not UTF-8; send the event encoded as UTF-8")]
    InvalidUtf8 { at: usize },
    #[error("this is not JSON: {reason}")]
    InvalidJson { reason: String },
    #[error("expected one JSON object, found {found}")]
    NotAnObject { found: &'static str },
    #[error("objects and arrays nest deeper than {DEPTH_MAX} levels; flatten the event")]
    TooDeep,
    #[error("a text holds \\u0000 or half a surrogate pair, which cannot be stored; leave it out")]
    InvalidUnicode { pointer: String },
    #[error(
        "a number is beyond what a double holds, has more than 400 decimals, or is one of too many with \
         large exponents; send it as a string"
    )]
    NumberOutOfRange { pointer: String },
    #[error("the event does not say what was done; set `type`")]
    MissingType,
    #[error("the event does not say who did it; set `userId`")]
    MissingUser,
    #[error("the type is {bytes} bytes, at most {bytes_max} are taken; shorten it")]
    TypeTooLong { pointer: String, bytes: usize, bytes_max: usize },
    #[error("the id is {bytes} bytes, at most {bytes_max} are taken; send a shorter one")]
    IdTooLong { pointer: String, bytes: usize, bytes_max: usize },
    #[error("the source is {bytes} bytes, at most {bytes_max} are taken; shorten it")]
    SourceTooLong { pointer: String, bytes: usize, bytes_max: usize },
    #[error("expected {expected}, found {found}")]
    InvalidMember { pointer: String, expected: &'static str, found: &'static str },
    #[error(
        "this is no time; send RFC 3339 (2026-11-21T10:00:00Z) or seconds or milliseconds since 1970"
    )]
    InvalidTime { pointer: String },
    #[error("the time lies before 1970 or more than 24 h ahead; check the clock or the unit")]
    TimeOutOfRange { pointer: String },
    #[error(
        "an event without an id is known by this member, which must not be {found}; set `eventId`"
    )]
    UnhashableMember { pointer: String, found: &'static str },
}

impl InvalidEvent {
    /// Every code, for documentation and metrics.
    pub const ALL_CODES: [&'static str; 19] = [
        "null_value",
        "empty",
        "too_large",
        "schema_registry_unsupported",
        "invalid_utf8",
        "invalid_json",
        "not_an_object",
        "too_deep",
        "invalid_unicode",
        "number_out_of_range",
        "missing_type",
        "missing_user",
        "type_too_long",
        "id_too_long",
        "source_too_long",
        "invalid_member",
        "invalid_time",
        "time_out_of_range",
        "unhashable_member",
    ];

    /// The metric label, the dead letter's `error_code` and the verdict's `code`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NullValue => "null_value",
            Self::Empty => "empty",
            Self::TooLarge { .. } => "too_large",
            Self::SchemaRegistryUnsupported => "schema_registry_unsupported",
            Self::InvalidUtf8 { .. } => "invalid_utf8",
            Self::InvalidJson { .. } => "invalid_json",
            Self::NotAnObject { .. } => "not_an_object",
            Self::TooDeep => "too_deep",
            Self::InvalidUnicode { .. } => "invalid_unicode",
            Self::NumberOutOfRange { .. } => "number_out_of_range",
            Self::MissingType => "missing_type",
            Self::MissingUser => "missing_user",
            Self::TypeTooLong { .. } => "type_too_long",
            Self::IdTooLong { .. } => "id_too_long",
            Self::SourceTooLong { .. } => "source_too_long",
            Self::InvalidMember { .. } => "invalid_member",
            Self::InvalidTime { .. } => "invalid_time",
            Self::TimeOutOfRange { .. } => "time_out_of_range",
            Self::UnhashableMember { .. } => "unhashable_member",
        }
    }

    /// Where in the event (RFC 6901); empty for the whole of it.
    pub fn pointer(&self) -> String {
        let pointer = match self {
            Self::NullValue
            | Self::Empty
            | Self::TooLarge { .. }
            | Self::SchemaRegistryUnsupported
            | Self::InvalidUtf8 { .. }
            | Self::InvalidJson { .. }
            | Self::NotAnObject { .. }
            | Self::TooDeep => "",
            Self::MissingType => "/type",
            Self::MissingUser => "/userId",
            Self::InvalidUnicode { pointer }
            | Self::NumberOutOfRange { pointer }
            | Self::TypeTooLong { pointer, .. }
            | Self::IdTooLong { pointer, .. }
            | Self::SourceTooLong { pointer, .. }
            | Self::InvalidMember { pointer, .. }
            | Self::InvalidTime { pointer }
            | Self::TimeOutOfRange { pointer }
            | Self::UnhashableMember { pointer, .. } => pointer,
        };
        pointer.to_owned()
    }
}
