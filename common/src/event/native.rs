//! Our own form, under all its names: which member becomes which column; the rest are properties.

use std::borrow::Cow;

use jiff::Timestamp;

use super::members::{self, Member, Members};
use super::{InvalidEvent, Told, column, identity, time};

#[derive(Clone, Copy)]
enum Column {
    EventId,
    Type,
    User,
    Object,
    ObjectType,
    Time,
    Session,
    Source,
    Properties,
    Context,
}

const COLUMNS: usize = Column::Context as usize + 1;

/// The column a member may become, and its rank among those that may: the lowest that is present wins.
fn place_of(name: &str) -> Option<(Column, u8)> {
    Some(match name {
        "eventId" => (Column::EventId, 0),
        "event_id" => (Column::EventId, 1),
        "messageId" => (Column::EventId, 2),
        "message_id" => (Column::EventId, 3),
        "uuid" => (Column::EventId, 4),
        "insert_id" => (Column::EventId, 5),
        "insertId" => (Column::EventId, 6),
        "id" => (Column::EventId, 7),

        "type" => (Column::Type, 0),
        "eventType" => (Column::Type, 1),
        "event_type" => (Column::Type, 2),
        "event_name" => (Column::Type, 3),
        "eventName" => (Column::Type, 4),
        "event" => (Column::Type, 5),
        "name" => (Column::Type, 6),
        "action" => (Column::Type, 7),

        "userId" => (Column::User, 0),
        "user_id" => (Column::User, 1),
        "distinct_id" => (Column::User, 2),
        "distinctId" => (Column::User, 3),
        "client_id" => (Column::User, 4),
        "clientId" => (Column::User, 5),
        "anonymousId" => (Column::User, 6),
        "anonymous_id" => (Column::User, 7),

        "postId" => (Column::Object, 0),
        "post_id" => (Column::Object, 1),
        "productId" => (Column::Object, 2),
        "product_id" => (Column::Object, 3),
        "contentId" => (Column::Object, 4),
        "content_id" => (Column::Object, 5),
        "itemId" => (Column::Object, 6),
        "item_id" => (Column::Object, 7),
        "sku" => (Column::Object, 8),
        "objectId" => (Column::Object, 9),
        "object_id" => (Column::Object, 10),

        "objectType" => (Column::ObjectType, 0),
        "object_type" => (Column::ObjectType, 1),

        "occurredAt" => (Column::Time, 0),
        "occurred_at" => (Column::Time, 1),
        "timestamp" => (Column::Time, 2),
        "event_datetime" => (Column::Time, 3),
        "eventDatetime" => (Column::Time, 4),
        "time" => (Column::Time, 5),
        "ts" => (Column::Time, 6),
        "created_at" => (Column::Time, 7),
        "createdAt" => (Column::Time, 8),
        "dt_add" => (Column::Time, 9),
        "dtAdd" => (Column::Time, 10),

        "sessionId" => (Column::Session, 0),
        "session_id" => (Column::Session, 1),
        "sid" => (Column::Session, 2),

        "source" => (Column::Source, 0),
        "properties" => (Column::Properties, 0),
        "context" => (Column::Context, 0),
        _ => return None,
    })
}

/// The type of the object that a member of this name is the id of; `None`: `objectType` says it.
fn object_type(name: &str) -> Option<&'static str> {
    match name {
        "postId" | "post_id" => Some("post"),
        "productId" | "product_id" => Some("product"),
        "contentId" | "content_id" => Some("content"),
        "itemId" | "item_id" | "sku" => Some("item"),
        _ => None,
    }
}

/// The names `write_json` gives.
const CANONICAL: [&str; 11] = [
    "eventId",
    "type",
    "userId",
    "objectType",
    "objectId",
    "occurredAt",
    "receivedAt",
    "source",
    "sessionId",
    "properties",
    "context",
];

/// Whether this is an event that `write_json` wrote.
pub fn is_canonical(members: &Members<'_>) -> bool {
    members.iter().all(|member| CANONICAL.contains(&&*member.name))
        && ["eventId", "occurredAt", "source", "properties", "context"]
            .iter()
            .all(|name| members.get(name).is_some())
}

/// Whether a lookup in these properties would find an object.
pub fn names_an_object(properties: &str) -> bool {
    Members::of(properties)
        .is_ok_and(|properties| Chosen::of(&properties, "").get(Column::Object).is_some())
}

/// The judged event has its object as a column or has none; on the way to the judge a null says so. Whatever
/// its properties seem to name, the first reader has decided.
fn says_there_is_no_object(members: &Members<'_>) -> bool {
    let has = |name: &str, is_absent: bool| {
        members.iter().any(|it| it.name == name && it.value.is_absent() == is_absent)
    };
    (has("objectId", true) || has("receivedAt", false) && !has("objectId", false))
        && is_canonical(members)
}

pub fn read<'a>(members: &Members<'a>, now: Timestamp) -> Result<Told<'a>, InvalidEvent> {
    let mut chosen = Chosen::of(members, "");
    let event_type = chosen.get(Column::Type).ok_or(InvalidEvent::MissingType)?;
    let user_id = chosen.get(Column::User).ok_or(InvalidEvent::MissingUser)?;
    let time = chosen.get(Column::Time);
    let context = chosen.get(Column::Context).map_or(Ok("{}"), column::object)?;
    let given_text = chosen.get(Column::Properties).map_or(Ok("{}"), column::object)?;

    // The given properties are taken apart only to be mixed with other members or asked for the object.
    let mut given = None;
    if !chosen.knows_the_object() || chosen.rest(members).next().is_some() {
        given = Some(Members::of(given_text)?);
    }
    if let Some(given) = given.as_ref().filter(|_| !says_there_is_no_object(members)) {
        chosen.look_for_the_object_in(given);
    }
    let properties = match chosen.rest(members).next() {
        Some(_) => members::splice(chosen.rest(members), given.as_ref()),
        None => members::without_credentials(given_text)?,
    };
    let mut told = Told {
        event_id: chosen.get(Column::EventId).map(|it| column::id(it, "")).transpose()?,
        event_type: column::type_name(event_type, "")?,
        user_id: column::id(user_id, "")?,
        object: chosen.object()?,
        occurred_at: time.map(|time| time::read(time, now)).transpose()?,
        source: chosen.get(Column::Source).map(column::source).transpose()?,
        session_id: chosen.get(Column::Session).map(|it| column::id(it, "")).transpose()?,
        properties,
        context: members::without_credentials(context)?,
    };
    if let (None, Some(time)) = (&told.event_id, time) {
        told.event_id = Some(Cow::Owned(hashed(&told, time)));
    }
    Ok(told)
}

fn hashed(told: &Told<'_>, time: &Member<'_>) -> String {
    let (object_type, object_id) = told.object.as_ref().map_or(("", ""), |(kind, id)| (kind, id));
    let time_as_sent = time.value.scalar().unwrap_or_default();
    let session_id = told.session_id.as_deref().unwrap_or_default();
    identity::hashed([
        &*told.user_id,
        object_type,
        object_id,
        &*told.event_type,
        &*time_as_sent,
        session_id,
    ])
}

/// For each column the member that outranks the others.
#[derive(Default)]
struct Chosen<'m, 'a>([Option<Choice<'m, 'a>>; COLUMNS]);

#[derive(Clone, Copy)]
struct Choice<'m, 'a> {
    rank: u8,
    member: &'m Member<'a>,
    /// The pointer of the object it was found in.
    within: &'static str,
}

impl<'m, 'a> Chosen<'m, 'a> {
    fn of(members: &'m Members<'a>, within: &'static str) -> Self {
        let mut chosen = Self::default();
        for member in members.iter() {
            let Some((column, rank)) = place_of(&member.name) else { continue };
            let best = &mut chosen.0[column as usize];
            if best.is_none_or(|best| rank < best.rank) && !member.value.is_absent() {
                *best = Some(Choice { rank, member, within });
            }
        }
        chosen
    }

    /// Adds what only the given properties tell of the object.
    fn look_for_the_object_in(&mut self, given: &'m Members<'a>) {
        let given = Self::of(given, "/properties");
        for column in [Column::Object, Column::ObjectType] {
            let best = &mut self.0[column as usize];
            *best = best.or(given.0[column as usize]);
        }
    }

    fn get(&self, column: Column) -> Option<&'m Member<'a>> {
        self.0[column as usize].map(|choice| choice.member)
    }

    fn knows_the_object(&self) -> bool {
        self.get(Column::Object).is_some_and(|object| {
            object_type(&object.name).is_some() || self.get(Column::ObjectType).is_some()
        })
    }

    /// Its type and id.
    fn object(&self) -> Result<Option<(Cow<'a, str>, Cow<'a, str>)>, InvalidEvent> {
        let Some(object) = self.0[Column::Object as usize] else { return Ok(None) };
        let id = column::id(object.member, object.within)?;
        let kind = match (object_type(&object.member.name), self.0[Column::ObjectType as usize]) {
            (Some(kind), _) => Cow::Borrowed(kind),
            (None, Some(kind)) => column::type_name(kind.member, kind.within)?,
            (None, None) => Cow::Borrowed("object"),
        };
        Ok(Some((kind, id)))
    }

    /// The members that are properties: no columns, no credentials, not what `write_json` adds.
    fn rest(&self, members: &'m Members<'a>) -> impl Iterator<Item = &'m Member<'a>> {
        members.iter().filter(|member| {
            !self.becomes_a_column(member)
                && !member.is_credential()
                && !((member.name == "receivedAt" || member.value.is_absent())
                    && is_canonical(members))
        })
    }

    fn becomes_a_column(&self, member: &Member<'a>) -> bool {
        match place_of(&member.name) {
            None => false,
            Some((Column::Properties | Column::Context, _)) => true,
            // A type makes a column only beside an `objectId`.
            Some((Column::ObjectType, _)) => {
                self.is_chosen(Column::ObjectType, member)
                    && self.get(Column::Object).is_some_and(|it| object_type(&it.name).is_none())
            }
            Some((column, _)) => self.is_chosen(column, member),
        }
    }

    fn is_chosen(&self, column: Column, member: &Member<'a>) -> bool {
        self.get(column).is_some_and(|chosen| std::ptr::eq(chosen, member))
    }
}
