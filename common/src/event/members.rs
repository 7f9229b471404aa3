//! One JSON object as its members in their own text: looked up, spliced, never rebuilt from a tree.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::lint::Shape;
use super::{InvalidEvent, text};

/// The members of an object, in its order.
pub struct Members<'a>(Vec<Member<'a>>);

#[derive(Clone)]
pub struct Member<'a> {
    pub name: Cow<'a, str>,
    pub value: Value<'a>,
}

/// The text of one JSON value.
#[derive(Clone, Copy)]
pub struct Value<'a>(&'a str);

impl<'a> Members<'a> {
    pub fn of(text: &'a str) -> Result<Self, InvalidEvent> {
        let value = Value(text);
        if !value.is_object() {
            text::must_be_json(text)?;
            return Err(InvalidEvent::NotAnObject { found: value.kind() });
        }
        serde_json::from_str(text)
            .map_err(|error| InvalidEvent::InvalidJson { reason: error.to_string() })
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Member<'a>> {
        self.0.iter()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn without(&self, is_unwanted: impl Fn(&Member<'_>) -> bool) -> Self {
        Self(self.0.iter().filter(|it| !is_unwanted(it)).cloned().collect())
    }

    /// The member of that name, unless it is null or an empty string: those count as absent.
    pub fn get(&self, name: &str) -> Option<&Member<'a>> {
        self.0.iter().find(|member| member.name == name).filter(|member| !member.value.is_absent())
    }
}

impl<'a> Member<'a> {
    /// `text` is JSON.
    pub fn new(name: &'a str, text: &'a str) -> Self {
        Self { name: Cow::Borrowed(name), value: Value(text) }
    }

    /// `within` is the pointer of the object that holds the member.
    pub fn pointer(&self, within: &str) -> String {
        let mut pointer = within.to_owned();
        push_token(&self.name, &mut pointer);
        pointer
    }

    /// Credentials are told to the door and never stored.
    pub fn is_credential(&self) -> bool {
        matches!(&*self.name, "api_key" | "apiKey" | "write_key" | "writeKey")
    }
}

impl<'a> Value<'a> {
    /// `text` is JSON.
    pub fn of(text: &'a str) -> Self {
        Self(text)
    }

    pub fn text(self) -> &'a str {
        self.0
    }

    pub fn is_object(self) -> bool {
        self.0.starts_with('{')
    }

    pub fn is_absent(self) -> bool {
        matches!(self.0, "null" | "\"\"")
    }

    /// A string decoded, a number or boolean as written; an object or array has no such text.
    pub fn scalar(self) -> Option<Cow<'a, str>> {
        match self.0.as_bytes().first()? {
            b'{' | b'[' => None,
            b'"' if self.0.contains('\\') => serde_json::from_str(self.0).ok().map(Cow::Owned),
            b'"' => self.0.get(1..self.0.len() - 1).map(Cow::Borrowed),
            _ => Some(Cow::Borrowed(self.0)),
        }
    }

    pub fn kind(self) -> &'static str {
        match self.0.as_bytes().first() {
            Some(b'{') => "an object",
            Some(b'[') => "an array",
            Some(b'"') => "a string",
            Some(b't' | b'f') => "a boolean",
            Some(b'n') => "null",
            _ => "a number",
        }
    }
}

/// Writes `members` and then those of `given` as one object; of two with the same name that of `given` stays.
pub fn splice<'m, 'a: 'm>(
    members: impl Iterator<Item = &'m Member<'a>>,
    given: Option<&'m Members<'a>>,
) -> String {
    let given = given.map(|given| given.0.as_slice()).unwrap_or_default();
    let names = given.iter().map(|member| &*member.name).collect::<HashSet<_>>();
    let mut out = vec![b'{'];
    for member in members.filter(|member| !names.contains(&*member.name)).chain(given) {
        if member.is_credential() {
            continue;
        }
        write_name(&member.name, &mut out);
        out.extend_from_slice(member.value.0.as_bytes());
    }
    out.push(b'}');
    String::from_utf8(out).expect("names and values are UTF-8")
}

/// The object's text without credentials: its own text where it holds none.
pub fn without_credentials(object: &str) -> Result<Cow<'_, str>, InvalidEvent> {
    if memchr::memmem::find(object.as_bytes(), b"ey\"").is_none() {
        return Ok(Cow::Borrowed(object));
    }
    let members = Members::of(object)?;
    if !members.iter().any(Member::is_credential) {
        return Ok(Cow::Borrowed(object));
    }
    Ok(Cow::Owned(splice(members.iter(), None)))
}

/// In every object of the text the last of each key, as Postgres and nearly every reader has it.
pub fn each_key_once<'a>(text: &'a str, shape: &Shape) -> Result<Cow<'a, str>, InvalidEvent> {
    if !shape.may_repeat {
        return Ok(Cow::Borrowed(text));
    }
    text::must_be_json(text)?;
    let mut out = Vec::with_capacity(text.len());
    write_once(text, &mut out)?;
    Ok(Cow::Owned(String::from_utf8(out).expect("names and values are UTF-8")))
}

/// Recursion is as deep as the value, which `lint` has bounded.
fn write_once(value: &str, out: &mut Vec<u8>) -> Result<(), InvalidEvent> {
    if value.starts_with('[') {
        out.push(b'[');
        for item in items(value) {
            write_comma(out);
            write_once(item.get(), out)?;
        }
        out.push(b']');
        return Ok(());
    }
    if !value.starts_with('{') {
        out.extend_from_slice(value.as_bytes());
        return Ok(());
    }
    let members = Members::of(value)?;
    let last = members.iter().enumerate().map(|(at, member)| (&*member.name, at));
    let last = last.collect::<HashMap<_, _>>();
    out.push(b'{');
    for (at, member) in members.iter().enumerate() {
        if last[&*member.name] == at {
            write_name(&member.name, out);
            write_once(member.value.0, out)?;
        }
    }
    out.push(b'}');
    Ok(())
}

/// The pointer to the innermost value that holds the byte `at`; to the object, if it is in a key of it.
pub fn pointer_to(text: &str, at: usize) -> String {
    const POINTER_BYTES_MAX: usize = 1_000;
    let mut pointer = String::new();
    let mut value = text;
    let holds = |value: &str| {
        let start = value.as_ptr() as usize - text.as_ptr() as usize;
        (start..start + value.len()).contains(&at)
    };
    loop {
        let parent_bytes = pointer.len();
        if value.starts_with('{') {
            let members = Members::of(value).map(|members| members.0).unwrap_or_default();
            let Some(member) = members.iter().find(|member| holds(member.value.0)) else { break };
            push_token(&member.name, &mut pointer);
            value = member.value.0;
        } else {
            let items = items(value);
            let Some(at) = items.iter().position(|item| holds(item.get())) else { break };
            push_token(&at.to_string(), &mut pointer);
            value = items[at].get();
        }
        if pointer.len() > POINTER_BYTES_MAX {
            pointer.truncate(parent_bytes);
            break;
        }
    }
    pointer
}

/// The items of an array; none of anything else.
fn items(value: &str) -> Vec<&RawValue> {
    serde_json::from_str(value).unwrap_or_default()
}

fn push_token(name: &str, pointer: &mut String) {
    pointer.push('/');
    pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
}

/// Appends a JSON string.
pub fn write_text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a Vec takes every byte");
}

/// The text around an object and its own, with nothing but quotes where values of `is_secret` were,
/// among its members and those of its `properties`.
pub fn blanked<'a>(text: &'a str, is_secret: impl Fn(&Member<'_>) -> bool) -> Cow<'a, str> {
    let members = |text| Members::of(text).map(|it| it.0).unwrap_or_default();
    let mut secrets = Vec::new();
    for member in members(text::trimmed(text)) {
        if is_secret(&member) {
            secrets.push(member.value.0);
        } else if member.name == "properties" {
            let within = members(member.value.0);
            secrets.extend(within.iter().filter(|it| is_secret(it)).map(|it| it.value.0));
        }
    }
    if secrets.is_empty() {
        return Cow::Borrowed(text);
    }
    // In their order: in one pass, however many there are.
    let (mut out, mut from) = (String::with_capacity(text.len() + 2), 0);
    for secret in secrets {
        let at = secret.as_ptr() as usize - text.as_ptr() as usize;
        out.push_str(&text[from..at]);
        out.push_str("\"\"");
        from = at + secret.len();
    }
    out.push_str(&text[from..]);
    Cow::Owned(out)
}

/// Appends a member of an object that is being written, its value a string.
pub fn write_member(name: &str, text: &str, out: &mut Vec<u8>) {
    write_name(name, out);
    write_text(text, out);
}

pub fn write_name(name: &str, out: &mut Vec<u8>) {
    write_comma(out);
    write_text(name, out);
    out.push(b':');
}

fn write_comma(out: &mut Vec<u8>) {
    if !matches!(out.last(), Some(b'{' | b'[')) {
        out.push(b',');
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(16);
                while let Some((Name(name), value)) = map.next_entry::<_, &'de RawValue>()? {
                    members.push(Member { name, value: Value(value.get()) });
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// A member's name, borrowed where it is written without escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }

        deserializer.deserialize_str(Text)
    }
}
