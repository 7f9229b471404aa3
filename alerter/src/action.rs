//! One record of `unique-actions`, as far as the rules look at it.

use std::borrow::Cow;

use common::event::ID_BYTES_MAX;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A canonical event (CONTRACT §5). The processor wrote it, so nothing is checked again.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Action<'a> {
    #[serde(rename = "type", borrow)]
    pub event_type: Cow<'a, str>,
    #[serde(borrow)]
    pub user_id: Cow<'a, str>,
    #[serde(borrow, default)]
    pub source: Cow<'a, str>,
    #[serde(borrow, default)]
    object_type: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    object_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    occurred_at: Cow<'a, str>,
    #[serde(borrow, default)]
    properties: Option<&'a RawValue>,
}

/// Why a record is not an action.
#[derive(Debug, thiserror::Error)]
pub enum NotAnAction {
    #[error("no canonical event")]
    Shape(#[from] serde_json::Error),
    #[error("no time")]
    Time(#[from] jiff::Error),
}

/// What a rule needs of a property: its text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Number(serde_json::Number),
    Other(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct OwnerProperties {
    #[serde(rename = "ownerId", default)]
    camel: Option<Scalar>,
    #[serde(rename = "owner_id", default)]
    snake: Option<Scalar>,
}

impl<'a> Action<'a> {
    pub fn parse(value: &'a [u8]) -> Result<Self, NotAnAction> {
        Ok(serde_json::from_slice(value)?)
    }

    /// Event time in milliseconds since 1970.
    pub fn occurred_at_ms(&self) -> Result<i64, NotAnAction> {
        Ok(self.occurred_at.parse::<Timestamp>()?.as_millisecond())
    }

    /// Type and id of the object, if the action had one.
    pub fn object(&self) -> Option<(&str, &str)> {
        Some((self.object_type.as_deref()?, self.object_id.as_deref()?))
    }

    /// Whose object this is, where the action says so.
    pub fn owner_id(&self) -> Option<String> {
        let properties = self.properties?.get();
        // Few actions name an owner: most are spared the second parse.
        if !properties.contains("owner") {
            return None;
        }
        let owner: OwnerProperties = serde_json::from_str(properties).ok()?;
        match owner.camel.or(owner.snake)? {
            // As long as a user's id may be. A longer one is nobody, and in no notification would there be room
            // for it: its object would stop its partition.
            Scalar::Text(text) if (1..=ID_BYTES_MAX).contains(&text.len()) => Some(text),
            Scalar::Number(number) => Some(number.to_string()),
            Scalar::Text(_) | Scalar::Other(_) => None,
        }
    }

    /// Whether its user brought the object into the world.
    pub fn creates_its_object(&self) -> bool {
        matches!(&*self.event_type, "post" | "publish" | "create" | "upload")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(properties: &str) -> Option<String> {
        let json = format!(
            r#"{{"eventId":"e","type":"like","userId":"u","objectType":"post","objectId":"1",
               "occurredAt":"2026-11-21T10:00:00.250Z","properties":{properties},"context":{{}}}}"#
        );
        Action::parse(json.as_bytes()).unwrap().owner_id()
    }

    #[test]
    fn an_owner_is_a_text_or_a_number() {
        assert_eq!(owner(r#"{"ownerId":"ann"}"#).as_deref(), Some("ann"));
        assert_eq!(owner(r#"{"owner_id":12}"#).as_deref(), Some("12"));
        let longest = "a".repeat(ID_BYTES_MAX);
        assert_eq!(owner(&format!(r#"{{"ownerId":"{longest}"}}"#)), Some(longest.clone()));
        assert_eq!(owner(&format!(r#"{{"ownerId":"{longest}a"}}"#)), None);
        for none in [r#"{"ownerId":""}"#, r#"{"ownerId":null}"#, r#"{"ownerId":[1]}"#, "{}"] {
            assert_eq!(owner(none), None, "{none}");
        }
    }

    #[test]
    fn escapes_are_read_as_text() {
        let json = r#"{"type":"li\u006be","userId":"ü\"","occurredAt":"1970-01-01T00:00:01Z"}"#;
        let action = Action::parse(json.as_bytes()).unwrap();
        assert_eq!((&*action.event_type, &*action.user_id), ("like", "ü\""));
        assert_eq!(action.occurred_at_ms().unwrap(), 1_000);
        assert_eq!(action.object(), None);
    }

    #[test]
    fn what_is_no_canonical_event_is_an_error() {
        for bytes in [&b"null"[..], b"{}", b"\xff", b"[]"] {
            assert!(Action::parse(bytes).is_err());
        }
    }
}
