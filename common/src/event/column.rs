//! What a column takes: a string, number or boolean of bounded length.

use std::borrow::Cow;

use super::members::Member;
use super::{Arrival, InvalidEvent};

pub const ID_BYTES_MAX: usize = 256;
pub const TYPE_BYTES_MAX: usize = 128;
pub const SOURCE_BYTES_MAX: usize = 128;

pub fn id<'a>(member: &Member<'a>, within: &str) -> Result<Cow<'a, str>, InvalidEvent> {
    let text = scalar(member, within)?;
    if text.len() > ID_BYTES_MAX {
        let pointer = member.pointer(within);
        return Err(InvalidEvent::IdTooLong {
            pointer,
            bytes: text.len(),
            bytes_max: ID_BYTES_MAX,
        });
    }
    Ok(text)
}

/// Who did it, or who it must have been where the event does not say so.
pub fn user<'a>(
    member: Option<&Member<'a>>,
    within: &str,
    arrival: &Arrival<'_>,
) -> Result<Cow<'a, str>, InvalidEvent> {
    match (member, arrival.user) {
        (Some(member), _) => id(member, within),
        (None, Some(user)) => Ok(Cow::Owned(user.to_owned())),
        (None, None) => Err(InvalidEvent::MissingUser),
    }
}

/// Of the event or of its object.
pub fn type_name<'a>(member: &Member<'a>, within: &str) -> Result<Cow<'a, str>, InvalidEvent> {
    let text = scalar(member, within)?;
    if text.len() > TYPE_BYTES_MAX {
        let pointer = member.pointer(within);
        let (bytes, bytes_max) = (text.len(), TYPE_BYTES_MAX);
        return Err(InvalidEvent::TypeTooLong { pointer, bytes, bytes_max });
    }
    Ok(text)
}

pub fn source<'a>(member: &Member<'a>) -> Result<Cow<'a, str>, InvalidEvent> {
    let text = scalar(member, "")?;
    if text.len() > SOURCE_BYTES_MAX {
        let pointer = member.pointer("");
        let (bytes, bytes_max) = (text.len(), SOURCE_BYTES_MAX);
        return Err(InvalidEvent::SourceTooLong { pointer, bytes, bytes_max });
    }
    Ok(text)
}

/// As far as it can be one: a foreign form's own member may mean something else.
pub fn source_if_fit<'a>(member: Option<&Member<'a>>) -> Option<Cow<'a, str>> {
    source(member?).ok()
}

/// The text of an object, for `properties` and `context`.
pub fn object<'a>(member: &Member<'a>) -> Result<&'a str, InvalidEvent> {
    if !member.value.is_object() {
        return Err(not_of_kind("an object", member, ""));
    }
    Ok(member.value.text())
}

fn scalar<'a>(member: &Member<'a>, within: &str) -> Result<Cow<'a, str>, InvalidEvent> {
    member.value.scalar().ok_or_else(|| not_of_kind("a string or a number", member, within))
}

fn not_of_kind(expected: &'static str, member: &Member<'_>, within: &str) -> InvalidEvent {
    let (pointer, found) = (member.pointer(within), member.value.kind());
    InvalidEvent::InvalidMember { pointer, expected, found }
}
