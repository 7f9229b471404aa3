//! Flat events of foreign trackers: recognised by their members, kept whole in `properties`.

use std::borrow::Cow;

use jiff::Timestamp;

use super::members::{self, Member, Members};
use super::{InvalidEvent, Told, column, identity, time};

/// The members a form is read from. They alone tell type, user, object, time and session.
pub struct Form {
    /// All of them present: it is this form.
    recognised_by: &'static [&'static str],
    user_id: &'static str,
    object_id: &'static str,
    object_type: &'static str,
    /// The first that is present counts.
    times: &'static [&'static str],
    /// What an event without an id is known by, in this order. No member that changes on a re-send.
    telling: &'static [&'static str],
}

/// The 136-field event.
const CONTENT: Form = Form {
    recognised_by: &["event_name", "content_id", "userId"],
    user_id: "userId",
    object_id: "content_id",
    object_type: "content",
    times: &["event_datetime"],
    telling: &["userId", "content_id", "event_name", "event_datetime", "sid"],
};

/// The product event.
const PRODUCT: Form = Form {
    recognised_by: &["event_name", "client_id"],
    user_id: "client_id",
    object_id: "product_id",
    object_type: "product",
    times: &["event_datetime", "ts"],
    telling: &["client_id", "product_id", "event_name", "event_datetime", "sid", "ts", "r"],
};

impl Form {
    pub fn of(members: &Members<'_>) -> Option<&'static Self> {
        let is_this =
            |form: &&Self| form.recognised_by.iter().all(|name| members.get(name).is_some());
        [&CONTENT, &PRODUCT].into_iter().find(is_this)
    }

    /// `text` is the whole event, of which `members` are taken.
    pub fn read<'a>(
        &self,
        members: &Members<'a>,
        text: &str,
        now: Timestamp,
    ) -> Result<Told<'a>, InvalidEvent> {
        let time = self.times.iter().find_map(|name| members.get(name));
        let id_of = |name: &str| members.get(name).map(|it| column::id(it, "")).transpose();
        let given_id = members.get("eventId").or_else(|| members.get("event_id"));
        let event_type = members.get("event_name").ok_or(InvalidEvent::MissingType)?;
        let mut told = Told {
            event_id: given_id.map(|it| column::id(it, "")).transpose()?,
            event_type: column::type_name(event_type, "")?,
            user_id: id_of(self.user_id)?.ok_or(InvalidEvent::MissingUser)?,
            object: id_of(self.object_id)?.map(|id| (Cow::Borrowed(self.object_type), id)),
            occurred_at: time.map(|time| time::read(time, now)).transpose()?,
            // Theirs may mean something else: it is ours only where it can be.
            source: members.get("source").and_then(|source| column::source(source).ok()),
            session_id: id_of("sid")?,
            properties: members::without_credentials(text)?,
            context: "{}".into(),
        };
        if told.event_id.is_none() && time.is_some() {
            told.event_id = Some(Cow::Owned(self.hashed(members)?));
        }
        Ok(told)
    }

    fn hashed(&self, members: &Members<'_>) -> Result<String, InvalidEvent> {
        let values =
            self.telling.iter().map(|name| members.get(name).map_or(Ok("".into()), hashable));
        let values = values.collect::<Result<Vec<_>, _>>()?;
        Ok(identity::hashed(values.iter().map(|value| &**value)))
    }
}

fn hashable<'a>(member: &Member<'a>) -> Result<Cow<'a, str>, InvalidEvent> {
    member.value.scalar().ok_or_else(|| InvalidEvent::UnhashableMember {
        pointer: member.pointer(""),
        found: member.value.kind(),
    })
}
