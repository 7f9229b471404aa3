//! An event as the SDKs of Amplitude send it.

use super::members::{self, Member, Members};
use super::skew::{Occurred, Skew};
use super::{Arrival, Identity, InvalidEvent, Told, column, native};

/// What became a column or the properties.
const TAKEN: [&str; 5] = ["event_type", "insert_id", "time", "session_id", "event_properties"];

pub fn read<'a>(
    members: &Members<'a>,
    skew: Skew,
    arrival: &Arrival<'_>,
) -> Result<Told<'a>, InvalidEvent> {
    let event_type = members.get("event_type").ok_or(InvalidEvent::MissingType)?;
    let user = members.get("user_id").or_else(|| members.get("device_id"));
    let given = members.get("event_properties").map_or(Ok("{}"), column::object)?;
    let occurred = Occurred::read(members.get("time"), skew, arrival)?;
    // -1 stands for "no session".
    let session = members.get("session_id").filter(|it| it.value.text() != "-1");
    let rest = members.iter().filter(|it| {
        let is_user = user.is_some_and(|user| it.name == user.name);
        !TAKEN.contains(&&*it.name) && !is_user && !it.value.is_absent()
    });
    let original = occurred.original.map(|text| Member::new("original_timestamp", text));
    let rest: Vec<_> = rest.cloned().chain(original).collect();

    let mut told = Told {
        event_id: members.get("insert_id").map(|it| column::id(it, "")).transpose()?,
        event_type: column::type_name(event_type, "")?,
        user_id: column::user(user, "", arrival)?,
        object: native::object_in(&Members::of(given)?, "/event_properties")?,
        occurred_at: occurred.at,
        source: None,
        session_id: session.map(|it| column::id(it, "")).transpose()?,
        properties: members::without_credentials(given)?,
        context: members::splice(rest.iter(), None).into(),
        identity: Identity::EventId,
    };
    told.name_by(occurred.told_by);
    Ok(told)
}
