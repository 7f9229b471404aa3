//! A CloudEvent 1.0: structured as it is, binary after its attributes were put around its data.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::members::{self, Member, Members};
use super::{Arrival, Identity, InvalidEvent, Told, ToldObject, column, native, time};

/// What became a column or the properties.
const TAKEN: [&str; 5] = ["id", "source", "type", "time", "data"];

/// Whether this can be nothing else.
pub fn is_one(members: &Members<'_>) -> bool {
    ["specversion", "id", "source", "type"].iter().all(|name| members.get(name).is_some())
}

pub fn read<'a>(members: &Members<'a>, arrival: &Arrival<'_>) -> Result<Told<'a>, InvalidEvent> {
    let required = |name: &'static str| {
        members.get(name).ok_or_else(|| InvalidEvent::InvalidMember {
            pointer: format!("/{name}"),
            expected: "an attribute that every CloudEvent has",
            found: "nothing",
        })
    };
    required("specversion")?;
    let data = members.get("data").filter(|data| data.value.is_object());
    let data = Members::of(data.map_or("{}", |data| data.value.text()))?;
    let (user, within) = match native::user_in(&data) {
        Some(user) => (Some(user), "/data"),
        None => (members.get("userid"), ""),
    };
    let occurred = members.get("time").map(|it| time::read(it, arrival.now)).transpose()?;
    let subject = members.get("subject");
    Ok(Told {
        event_id: Some(column::id(required("id")?, "")?),
        event_type: column::type_name(required("type")?, "")?,
        user_id: column::user(user, within, arrival)?,
        object: match native::object_in(&data, "/data")? {
            Some(object) => Some(object),
            None => subject.and_then(object_of),
        },
        occurred_at: occurred,
        source: Some(column::source(required("source")?)?),
        session_id: None,
        properties: properties(members)?,
        context: members::splice(
            members.iter().filter(|it| !TAKEN.contains(&&*it.name) && it.name != "data_base64"),
            None,
        )
        .into(),
        identity: Identity::SourceAndId,
    })
}

/// A subject `post/123` is an object; another one only context.
fn object_of<'a>(subject: &Member<'a>) -> Option<ToldObject<'a>> {
    let text = subject.value.scalar()?;
    let (object_type, id) = text.split_once('/')?;
    let is_fit = |text: &str, bytes_max| (1..=bytes_max).contains(&text.len());
    if !is_fit(object_type, column::TYPE_BYTES_MAX) || !is_fit(id, column::ID_BYTES_MAX) {
        return None;
    }
    let (object_type, id) = (object_type.to_owned(), id.to_owned());
    Some(ToldObject { object_type: Cow::Owned(object_type), id: Cow::Owned(id) })
}

/// Data that is no object is kept under its own name.
fn properties<'a>(members: &Members<'a>) -> Result<Cow<'a, str>, InvalidEvent> {
    if let Some(data) = members.get("data").filter(|data| data.value.is_object()) {
        return members::without_credentials(data.value.text());
    }
    let data = members.iter().filter(|it| matches!(&*it.name, "data" | "data_base64"));
    Ok(members::splice(data.filter(|it| !it.value.is_absent()), None).into())
}

/// The structured form of a binary one: the attributes are headers, the data is the body.
pub fn structured<'a>(
    attributes: impl Iterator<Item = (&'a str, Cow<'a, str>)>,
    content_type: Option<&str>,
    data: &[u8],
) -> Vec<u8> {
    let mut out = b"{".to_vec();
    for (name, value) in attributes {
        members::write_member(name, &value, &mut out);
    }
    if let Some(content_type) = content_type {
        members::write_member("datacontenttype", content_type, &mut out);
    }
    let is_json = content_type.is_none_or(|it| it.to_ascii_lowercase().contains("json"));
    match std::str::from_utf8(data) {
        Ok(text) if text.trim().is_empty() => {}
        Ok(text) if is_json && is_object_or_json(text) => {
            members::write_name("data", &mut out);
            out.extend_from_slice(text.as_bytes());
        }
        Ok(text) => members::write_member("data", text, &mut out),
        Err(_) => members::write_member("data_base64", &STANDARD.encode(data), &mut out),
    }
    out.push(b'}');
    out
}

/// What claims to be an object is left to the reader, who says what is wrong with it.
fn is_object_or_json(text: &str) -> bool {
    text.trim_start().starts_with('{')
        || serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok()
}
