//! What a window is about: a source, a type and an object's type or the object, and its key.

use std::borrow::Cow;

use clap::ValueEnum;
use serde::de::Error as _;
use serde::{Deserialize, Serialize};

use crate::action::Action;

/// How fine windows tell things apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Grouping {
    /// By source, type and object type.
    Type,
    /// By source, type and object.
    Object,
}

/// One combination. As a key it is an array in JSON, which needs no escapes of its own:
/// `["http","like","post"]`, `["http","like","post","123"]`, `["http","login"]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<Cow<'a, str>>", try_from = "Vec<Cow<'a, str>>")]
pub struct Dimensions<'a> {
    pub source: Cow<'a, str>,
    pub event_type: Cow<'a, str>,
    pub object_type: Option<Cow<'a, str>>,
    pub object_id: Option<Cow<'a, str>>,
}

impl<'a> Dimensions<'a> {
    pub fn of(action: &'a Action<'_>, grouping: Grouping) -> Self {
        let object = action.object();
        Self {
            source: Cow::Borrowed(&action.source),
            event_type: Cow::Borrowed(&action.event_type),
            object_type: object.map(|(object_type, _)| Cow::Borrowed(object_type)),
            object_id: object
                .filter(|_| grouping == Grouping::Object)
                .map(|(_, object_id)| Cow::Borrowed(object_id)),
        }
    }

    pub fn key(&self) -> String {
        serde_json::to_string(self).expect("text becomes JSON")
    }

    pub fn of_key(key: &str) -> serde_json::Result<Dimensions<'static>> {
        serde_json::from_str(key)
    }

    /// From the first elements of a key on.
    pub fn of_parts(parts: Vec<Cow<'a, str>>) -> serde_json::Result<Self> {
        let mut parts = parts.into_iter();
        let (Some(source), Some(event_type)) = (parts.next(), parts.next()) else {
            return Err(serde_json::Error::custom("a source and a type are missing"));
        };
        let (object_type, object_id) = (parts.next(), parts.next());
        match parts.next() {
            None => Ok(Self { source, event_type, object_type, object_id }),
            Some(_) => Err(serde_json::Error::custom("more than four dimensions")),
        }
    }
}

impl<'a> From<Dimensions<'a>> for Vec<Cow<'a, str>> {
    fn from(dimensions: Dimensions<'a>) -> Self {
        let Dimensions { source, event_type, object_type, object_id } = dimensions;
        [Some(source), Some(event_type), object_type, object_id].into_iter().flatten().collect()
    }
}

impl<'a> TryFrom<Vec<Cow<'a, str>>> for Dimensions<'a> {
    type Error = serde_json::Error;

    fn try_from(parts: Vec<Cow<'a, str>>) -> Result<Self, Self::Error> {
        Self::of_parts(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_what_it_is_about_and_no_two_are_alike() {
        let of = |object: &str| {
            let json = format!(
                r#"{{"type":"like","userId":"u","source":"a\"b","occurredAt":""{object}}}"#
            );
            let action = Action::parse(json.as_bytes()).unwrap();
            [Grouping::Type, Grouping::Object].map(|it| Dimensions::of(&action, it).key())
        };
        let [by_type, by_object] = of(r#","objectType":"post","objectId":"1""#);
        assert_eq!(by_type, r#"["a\"b","like","post"]"#);
        assert_eq!(by_object, r#"["a\"b","like","post","1"]"#);
        for key in [&by_type, &by_object] {
            assert_eq!(&Dimensions::of_key(key).unwrap().key(), key);
        }
        let [by_type, by_object] = of("");
        assert_eq!(by_type, by_object, "without an object both are one and the same");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for key in ["", "[]", r#"["a"]"#, r#"["a","b","c","d","e"]"#, r#"{"a":1}"#] {
            assert!(Dimensions::of_key(key).is_err(), "{key}");
        }
    }
}
