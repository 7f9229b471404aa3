//! An event as the SDKs of PostHog send it, over either of their protocols.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::members::{self, Member, Members};
use super::skew::{Occurred, Skew};
use super::{Arrival, Identity, InvalidEvent, Told, column, native, time};

/// What became a column, and what only concerns the transport.
const TAKEN: [&str; 12] = [
    "event",
    "distinct_id",
    "uuid",
    "timestamp",
    "offset",
    "session_id",
    "properties",
    "options",
    "token",
    "sent_at",
    "type",
    "library",
];

pub fn read<'a>(
    members: &Members<'a>,
    skew: Skew,
    arrival: &Arrival<'_>,
) -> Result<Told<'a>, InvalidEvent> {
    let event_type = members.get("event").ok_or(InvalidEvent::MissingType)?;
    let given = members.get("properties").map_or(Ok("{}"), column::object)?;
    let given = Members::of(given)?;
    let user = members.get("distinct_id").or_else(|| given.get("distinct_id"));
    let occurred = Occurred::read(members.get("timestamp"), skew, arrival)?;
    let session = members.get("session_id").or_else(|| given.get("$session_id"));
    // The browser's SDK hides a write key among the properties.
    let rest = members.iter().filter(|it| !TAKEN.contains(&&*it.name) && !it.value.is_absent());

    let mut told = Told {
        event_id: members.get("uuid").map(uuid).transpose()?,
        event_type: column::type_name(event_type, "")?,
        user_id: column::user(user, "", arrival)?,
        object: native::object_in(&given, "/properties")?,
        occurred_at: occurred.at.or_else(|| ago(members.get("offset")?, arrival)),
        source: None,
        session_id: session.and_then(|it| column::id(it, "").ok()),
        properties: members::splice(rest, Some(&given.without(is_token))).into(),
        context: context(members, &given, &occurred).into(),
        identity: Identity::EventId,
    };
    told.name_by(occurred.told_by);
    Ok(told)
}

fn uuid<'a>(member: &Member<'a>) -> Result<std::borrow::Cow<'a, str>, InvalidEvent> {
    let id = column::id(member, "")?;
    match Uuid::try_parse(&id) {
        Ok(_) => Ok(id),
        Err(_) => Err(InvalidEvent::InvalidMember {
            pointer: member.pointer(""),
            expected: "a UUID",
            found: member.value.kind(),
        }),
    }
}

/// Browsers tell how many milliseconds ago it was.
fn ago(offset: &Member<'_>, arrival: &Arrival<'_>) -> Option<Timestamp> {
    let ms: i64 = offset.value.scalar()?.parse().ok()?;
    let at = arrival.received_at.checked_sub(SignedDuration::from_millis(ms.max(0))).ok()?;
    time::checked(at, arrival.now, String::new).ok()
}

/// PostHog's name for its key.
pub fn is_token(member: &Member<'_>) -> bool {
    member.name == "token"
}

/// Library and groups, which also stay among the properties; the options of the later protocol.
fn context(members: &Members<'_>, given: &Members<'_>, occurred: &Occurred<'_, '_>) -> String {
    let (mut library, mut all) = (Vec::new(), Vec::new());
    for (property, name) in [("$lib", "name"), ("$lib_version", "version")] {
        library.extend(given.get(property).map(|it| Member::new(name, it.value.text())));
    }
    let library = members::splice(library.iter(), None);
    if library != "{}" {
        all.push(Member::new("library", &library));
    }
    all.extend(given.get("$groups").map(|it| Member::new("groups", it.value.text())));
    all.extend(members.get("options").map(|it| Member::new("options", it.value.text())));
    all.extend(occurred.original.map(|text| Member::new("original_timestamp", text)));
    members::splice(all.iter(), None)
}
