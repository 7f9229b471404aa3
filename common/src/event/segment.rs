//! A call of the Segment spec, as the SDKs of Segment and RudderStack send it.

use std::borrow::Cow;

use super::members::{self, Member, Members};
use super::skew::{Occurred, Skew};
use super::{Arrival, Identity, InvalidEvent, Told, column, native};

/// The kinds of a call.
const CALLS: [&str; 6] = ["track", "identify", "page", "screen", "group", "alias"];

/// What became a column or properties, and what only concerns the transport.
const TAKEN: [&str; 15] = [
    "type",
    "event",
    "userId",
    "messageId",
    "timestamp",
    "properties",
    "traits",
    "context",
    "originalTimestamp",
    "sentAt",
    "receivedAt",
    "integrations",
    "_metadata",
    "version",
    "writeKey",
];

/// Members beside `properties` or `traits` that say what was done.
const TELLING: [&str; 4] = ["name", "category", "groupId", "previousId"];

/// `call` is the kind that the path of a single call says.
pub fn read<'a>(
    members: &Members<'a>,
    call: Option<&str>,
    skew: Skew,
    arrival: &Arrival<'_>,
) -> Result<Told<'a>, InvalidEvent> {
    let call = call_of(members, call)?;
    let user_id = members.get("userId").or_else(|| members.get("anonymousId"));
    let user_id = column::user(user_id, "", arrival)?;
    let occurred = occurred(members, skew, arrival)?;

    let (given, within, other) = match call {
        "identify" | "group" => (members.get("traits"), "/traits", "properties"),
        _ => (members.get("properties"), "/properties", "traits"),
    };
    let given = Members::of(given.map_or(Ok("{}"), column::object)?)?;
    let telling = members.iter().filter(|it| TELLING.contains(&&*it.name) && !it.value.is_absent());
    let context = Members::of(members.get("context").map_or(Ok("{}"), column::object)?)?;
    let session_id = context.get("sessionId").and_then(|it| column::id(it, "/context").ok());

    let mut told = Told {
        event_id: members.get("messageId").map(|it| column::id(it, "")).transpose()?,
        event_type: event_type(members, call)?,
        user_id,
        object: native::object_in(&given, within)?,
        occurred_at: occurred.at,
        source: library(&context),
        session_id,
        properties: members::splice(telling, Some(&given)).into(),
        context: context_of(members, other, &context, &occurred).into(),
        identity: Identity::EventId,
    };
    told.name_by(occurred.told_by);
    Ok(told)
}

fn call_of(members: &Members<'_>, by_path: Option<&str>) -> Result<&'static str, InvalidEvent> {
    let unknown = |found| InvalidEvent::InvalidMember {
        pointer: "/type".into(),
        expected: "track, identify, page, screen, group or alias",
        found,
    };
    let known = |name: &str| CALLS.into_iter().find(|call| *call == name);
    if let Some(call) = by_path {
        return known(call).ok_or_else(|| unknown("another path"));
    }
    let kind = members.get("type").ok_or(InvalidEvent::MissingType)?;
    kind.value.scalar().and_then(|name| known(&name)).ok_or_else(|| unknown("something else"))
}

/// A track call has a name of its own; what the others do is their kind.
fn event_type<'a>(members: &Members<'a>, call: &str) -> Result<Cow<'a, str>, InvalidEvent> {
    if call != "track" {
        return Ok(Cow::Owned(format!("${call}")));
    }
    column::type_name(members.get("event").ok_or(InvalidEvent::MissingType)?, "")
}

/// A `timestamp` beside an `originalTimestamp` is the caller's choice, and no clock's fault.
fn occurred<'m, 'a>(
    members: &'m Members<'a>,
    skew: Skew,
    arrival: &Arrival<'_>,
) -> Result<Occurred<'m, 'a>, InvalidEvent> {
    let skew = skew.or_told_by(members.get("sentAt"));
    match (members.get("timestamp"), members.get("originalTimestamp")) {
        (Some(chosen), Some(_)) => Occurred::read(Some(chosen), skew.ignored(), arrival),
        (told, original) => Occurred::read(told.or(original), skew, arrival),
    }
}

fn library<'a>(context: &Members<'a>) -> Option<Cow<'a, str>> {
    let library = Members::of(context.get("library")?.value.text()).ok()?;
    column::source_if_fit(library.get("name"))
}

/// What has no other place is context; so is `other`, which calls of this kind do not have.
fn context_of(
    members: &Members<'_>,
    other: &str,
    given: &Members<'_>,
    occurred: &Occurred<'_, '_>,
) -> String {
    let user = members.get("userId").map_or("anonymousId", |_| "userId");
    let rest = members.iter().filter(|it| {
        (!TAKEN.contains(&&*it.name) || it.name == other)
            && !TELLING.contains(&&*it.name)
            && it.name != user
            && !it.value.is_absent()
    });
    let original = occurred.original.map(|text| Member::new("original_timestamp", text));
    let rest: Vec<_> = rest.cloned().chain(original).collect();
    members::splice(rest.iter(), Some(given))
}
