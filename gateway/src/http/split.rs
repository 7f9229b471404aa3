//! Cuts a body into the texts of its events without building a tree of them (pure).

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::error::ApiError;

/// More events than these are not one request.
pub const EVENTS_MAX: usize = 2_000;

/// What the content type says of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declared {
    Lines,
    /// One in the structured mode, or an array of them.
    CloudEvents,
    /// Rows under a header.
    Table,
    /// Nothing that can be relied on: the body shows what it is.
    Nothing,
}

/// The texts of the events, in input order.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch<'a> {
    pub events: Vec<&'a [u8]>,
    pub shape: Shape,
}

/// How the events were put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Single,
    Array,
    /// `{"events": […]}`, under this or another name.
    Wrapped(&'static str),
    Lines,
}

impl Shape {
    /// A place in an event as a place in the body. Of lines, the line is the first step.
    pub fn pointer(self, index: usize, within: &str) -> String {
        match self {
            Self::Single => within.to_owned(),
            Self::Array | Self::Lines => format!("/{index}{within}"),
            Self::Wrapped(member) => format!("/{member}/{index}{within}"),
        }
    }
}

pub fn split(body: &[u8], declared: Declared) -> Result<Batch<'_>, ApiError> {
    let body = trimmed(body);
    match body.first() {
        None => Err(ApiError::EmptyBody),
        Some(b'{') if declared == Declared::CloudEvents => Ok(single(body)),
        Some(_) if declared == Declared::Lines => lines(body),
        Some(b'{') if begins_with_a_whole_line(body) => lines(body),
        Some(b'{') if memchr::memmem::find(body, b"\"events\"").is_some() => object(body),
        Some(b'{') => Ok(single(body)),
        Some(b'[') => array(body),
        Some(_) => Err(neither(body)),
    }
}

/// Without what may surround JSON.
pub fn trimmed(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii()
}

fn single(body: &[u8]) -> Batch<'_> {
    Batch { events: vec![body], shape: Shape::Single }
}

/// Whether there is more than one line, and the first is JSON by itself: an indented object has a
/// first line that is not.
fn begins_with_a_whole_line(body: &[u8]) -> bool {
    let Some(end) = memchr::memchr(b'\n', body) else { return false };
    serde_json::from_slice::<&RawValue>(&body[..end]).is_ok()
}

fn lines(body: &[u8]) -> Result<Batch<'_>, ApiError> {
    let lines = || body.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let count = lines().filter(|line| !line.is_empty()).count();
    if count > EVENTS_MAX {
        return Err(ApiError::TooManyEvents { count });
    }
    let events = lines().filter(|line| !line.is_empty()).collect();
    Ok(Batch { events, shape: Shape::Lines })
}

fn array(body: &[u8]) -> Result<Batch<'_>, ApiError> {
    Ok(Batch { events: elements(utf8(body)?)?, shape: Shape::Array })
}

/// The elements of an array, which is the whole text.
fn elements(text: &str) -> Result<Vec<&[u8]>, ApiError> {
    let mut text = serde_json::Deserializer::from_str(text);
    let items = Items.deserialize(&mut text).and_then(|items| text.end().map(|()| items));
    items.map_err(invalid_json)?.checked()
}

/// The elements of the array that a body has under `member`.
pub fn items<'a>(value: &'a str, member: &str) -> Result<Vec<&'a [u8]>, ApiError> {
    if value.starts_with('[') { elements(value) } else { Err(no_array(member)) }
}

pub fn no_array(member: &str) -> ApiError {
    ApiError::Unreadable {
        code: "invalid_member",
        pointer: "",
        detail: format!("expected an array of events under `{member}`"),
    }
}

/// An object with a member `events`: a batch, unless it says itself what was done.
fn object(body: &[u8]) -> Result<Batch<'_>, ApiError> {
    let mut text = serde_json::Deserializer::from_str(utf8(body)?);
    let members = Wrapper.deserialize(&mut text).and_then(|it| text.end().map(|()| it));
    let Some(events) = members.map_err(invalid_json)? else { return Ok(single(body)) };
    Ok(Batch { events: items(events.get(), "events")?, shape: Shape::Wrapped("events") })
}

pub fn utf8(body: &[u8]) -> Result<&str, ApiError> {
    std::str::from_utf8(body).map_err(|error| ApiError::Unreadable {
        code: "invalid_utf8",
        pointer: "",
        detail: format!(
            "byte {} of the body is not UTF-8; encode all of it as UTF-8",
            error.valid_up_to()
        ),
    })
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of `map_err`")]
pub fn invalid_json(error: serde_json::Error) -> ApiError {
    ApiError::Unreadable {
        code: "invalid_json",
        pointer: "",
        detail: format!("the body is not JSON: {error}"),
    }
}

/// What begins neither with `{` nor with `[`.
fn neither(body: &[u8]) -> ApiError {
    let detail = match body {
        [0x1f, 0x8b, ..] => {
            "the body is compressed with gzip; say so with `Content-Encoding: gzip`"
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            "the body is compressed with zstd; say so with `Content-Encoding: zstd`"
        }
        _ => {
            "the body is neither a JSON object nor an array; send {\"type\":\"like\",\"userId\":\"u1\"}, \
             an array of such objects, or one per line"
        }
    };
    ApiError::Unreadable { code: "invalid_json", pointer: "", detail: detail.into() }
}

/// Collects the items of an array in their own text; beyond the limit it only counts.
struct Items;

#[derive(Default)]
struct Collected<'a> {
    events: Vec<&'a [u8]>,
    count: usize,
}

impl<'a> Collected<'a> {
    fn checked(self) -> Result<Vec<&'a [u8]>, ApiError> {
        match self.count {
            0 => Err(ApiError::EmptyBatch),
            count if count > EVENTS_MAX => Err(ApiError::TooManyEvents { count }),
            _ => Ok(self.events),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Items {
    type Value = Collected<'de>;

    fn deserialize<D: Deserializer<'de>>(self, text: D) -> Result<Self::Value, D::Error> {
        text.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items {
    type Value = Collected<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut collected = Collected::default();
        while collected.count < EVENTS_MAX {
            let Some(item) = items.next_element::<&'de RawValue>()? else { return Ok(collected) };
            collected.events.push(item.get().as_bytes());
            collected.count += 1;
        }
        while items.next_element::<IgnoredAny>()?.is_some() {
            collected.count += 1;
        }
        Ok(collected)
    }
}

/// Looks for the member `events` of an object that is not an event itself.
struct Wrapper;

/// The names under which an event says what was done (CONTRACT, "Event").
const TYPE_NAMES: [&str; 8] =
    ["type", "eventType", "event_type", "event_name", "eventName", "event", "name", "action"];

impl<'de> DeserializeSeed<'de> for Wrapper {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, text: D) -> Result<Self::Value, D::Error> {
        text.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Wrapper {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut events = None;
        let mut is_event = false;
        while let Some(name) = members.next_key::<String>()? {
            if name == "events" {
                events = Some(members.next_value()?);
            } else {
                is_event |= TYPE_NAMES.contains(&name.as_str());
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(events.filter(|_| !is_event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> Result<(Shape, Vec<&str>), String> {
        let batch = split(body.as_bytes(), Declared::Nothing).map_err(|error| error.to_string())?;
        let texts = batch.events.iter().map(|event| std::str::from_utf8(event).unwrap());
        Ok((batch.shape, texts.collect()))
    }

    #[test]
    fn every_shape_is_known_by_its_looks() {
        assert_eq!(of(r#" {"a":1} "#).unwrap(), (Shape::Single, vec![r#"{"a":1}"#]));
        assert_eq!(of(r#"[{"a":1}, 2]"#).unwrap(), (Shape::Array, vec![r#"{"a":1}"#, "2"]));
        let wrapped = of(r#"{"sentAt":1,"events":[{"a":1}]}"#).unwrap();
        assert_eq!(wrapped, (Shape::Wrapped("events"), vec![r#"{"a":1}"#]));
        let lines = of("{\"a\":1}\r\n\n {\"a\":2}\nno json\n").unwrap();
        assert_eq!(lines, (Shape::Lines, vec![r#"{"a":1}"#, r#"{"a":2}"#, "no json"]));
        assert_eq!(of("\u{feff}{}").unwrap(), (Shape::Single, vec!["{}"]));
    }

    #[test]
    fn an_indented_object_is_one_event() {
        let body = "{\n  \"type\": \"like\",\n  \"userId\": \"u1\"\n}\n";
        assert_eq!(of(body).unwrap(), (Shape::Single, vec![body.trim()]));
    }

    #[test]
    fn an_event_may_have_a_member_called_events() {
        let body = r#"{"type":"sync","events":[1,2]}"#;
        assert_eq!(of(body).unwrap(), (Shape::Single, vec![body]));
        let body = r#"{"properties":{"events":[1,2]}}"#;
        assert_eq!(of(body).unwrap(), (Shape::Single, vec![body]));
        assert!(of(r#"{"events":{"type":"like"}}"#).unwrap_err().contains("expected an array"));
    }

    #[test]
    fn the_last_event_that_fits_is_taken_and_one_more_is_counted() {
        let array = |count: usize| format!("[{}]", vec!["{}"; count].join(","));
        assert_eq!(of(&array(2_000)).unwrap().1.len(), 2_000);
        assert!(of(&array(2_001)).unwrap_err().contains("2001 events"));
        assert!(of(&array(9_999)).unwrap_err().contains("9999 events"));
        assert_eq!(of(&"{}\n".repeat(2_000)).unwrap().1.len(), 2_000);
        assert!(of(&"{}\n".repeat(2_001)).unwrap_err().contains("2001 events"));
    }

    #[test]
    fn nothing_to_do_is_said_so() {
        for body in ["", " \n", "[]", "{\"events\":[]}"] {
            let error = of(body).unwrap_err();
            assert!(error.contains("empty") || error.contains("no event"), "{body}: {error}");
        }
    }

    #[test]
    fn a_nest_of_a_million_brackets_is_one_item_without_recursion() {
        let nest = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        assert_eq!(of(&nest).unwrap().1.len(), 1);
    }

    #[test]
    fn what_follows_the_last_bracket_is_not_overlooked() {
        for body in ["[{}] x", "[{}", "[{},]", r#"{"events":[{}]} {}"#] {
            assert!(of(body).unwrap_err().contains("not JSON"), "{body}");
        }
    }

    #[test]
    fn a_pointer_starts_at_the_body() {
        assert_eq!(Shape::Single.pointer(0, "/userId"), "/userId");
        assert_eq!(Shape::Array.pointer(3, "/userId"), "/3/userId");
        assert_eq!(Shape::Wrapped("events").pointer(3, ""), "/events/3");
        assert_eq!(Shape::Lines.pointer(3, "/a"), "/3/a");
    }
}
