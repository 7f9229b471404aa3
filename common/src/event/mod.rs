//! Bytes in, a valid `Event` or a named reason out: the one parser of the gateway and the processor.

mod amplitude;
mod cloudevents;
mod column;
mod connect;
mod flat;
mod identity;
mod invalid;
mod lint;
mod members;
pub mod names;
mod native;
mod posthog;
mod segment;
mod skew;
mod stored;
mod text;
pub(crate) mod time;

use std::borrow::Cow;

use bytes::Bytes;
use bytestring::ByteString;
use compact_str::CompactString;
use jiff::Timestamp;

pub use self::cloudevents::structured as structured_cloud_event;
pub use self::column::ID_BYTES_MAX;
pub use self::identity::{EventKey, Identity};
pub use self::invalid::InvalidEvent;
use self::members::{Member, Members};
pub use self::skew::Skew;

/// The largest event the door takes.
pub const EVENT_BYTES_MAX: usize = 1 << 20;

/// What the canonical form may be longer than the bytes it was parsed from: a flat form keeps its members in
/// `properties` and repeats them as columns, each ≤ 256 bytes and, where all of it needs escapes, six times that.
/// A reader behind the gateway takes `EVENT_BYTES_MAX + REWRITE_BYTES_MAX`.
pub const REWRITE_BYTES_MAX: usize = 16 << 10;

/// The header `surface` of a CloudEvent that the gateway rewrote: its identity includes its source.
pub const CLOUD_EVENTS: &str = "cloudevents";

/// How deep objects and arrays of an event may nest; the event itself is the first level.
pub const DEPTH_MAX: usize = 32;

/// What is known of an event besides its own bytes.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// HTTP: now; Kafka: the record's time. Also the `occurred_at` of an event that tells none.
    pub received_at: Timestamp,
    /// What "not later than now + 24 h" is measured against. Who reads behind another door passes the later of
    /// its own clock and the record's time, else two clocks that differ turn an accepted event into a dead letter.
    pub now: Timestamp,
    /// `source` of an event that names none; not empty.
    pub source: &'a str,
    /// Who did it where the event does not say so, when that is known: an id as `user_id` may be.
    pub user: Option<&'a str>,
    /// `EVENT_BYTES_MAX` at the door, `REWRITE_BYTES_MAX` more behind it.
    pub bytes_max: usize,
}

/// In whose words an event is written.
#[derive(Debug, Clone, Copy)]
pub enum Format<'a> {
    /// Our own form, a flat one or a CloudEvent: its members tell.
    Auto,
    /// Our own form or a flat one.
    Native,
    /// A call of the Segment spec; `call` where its path says which.
    Segment {
        call: Option<&'a str>,
        skew: Skew,
    },
    PostHog(Skew),
    Amplitude(Skew),
    CloudEvent,
}

/// One valid action. Who holds it need not check it again.
///
/// Most of its texts are short: up to 24 bytes a `CompactString` needs no memory of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub event_id: CompactString,
    pub event_type: CompactString,
    pub user_id: CompactString,
    pub object: Option<ObjectRef>,
    /// Whole milliseconds, so that every consumer sees the same value.
    pub occurred_at: Timestamp,
    pub source: CompactString,
    pub session_id: Option<CompactString>,
    /// The text of a JSON object, on one line, each key once in every object.
    pub properties: ByteString,
    /// As `properties`.
    pub context: ByteString,
    pub identity: Identity,
}

/// What the action was done to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    pub object_type: CompactString,
    pub id: CompactString,
}

/// What a form tells of its event; what it does not tell is known from the arrival.
struct Told<'a> {
    /// Given, or the hash of the telling members of an event that has a time of its own.
    event_id: Option<Cow<'a, str>>,
    event_type: Cow<'a, str>,
    user_id: Cow<'a, str>,
    object: Option<ToldObject<'a>>,
    occurred_at: Option<Timestamp>,
    source: Option<Cow<'a, str>>,
    session_id: Option<Cow<'a, str>>,
    properties: Cow<'a, str>,
    context: Cow<'a, str>,
    identity: Identity,
}

impl Told<'_> {
    /// An event without an id is known by what it tells, if that includes a time of its own.
    fn name_by(&mut self, time: Option<&Member<'_>>) {
        if let (None, Some(time)) = (&self.event_id, time) {
            self.event_id = Some(Cow::Owned(native::hashed(self, time)));
        }
    }
}

struct ToldObject<'a> {
    object_type: Cow<'a, str>,
    id: Cow<'a, str>,
}

/// Reads one event. `unnamed` supplies the id of an event that has neither an id nor a time of its own.
pub fn parse(
    bytes: &[u8],
    arrival: &Arrival<'_>,
    unnamed: impl FnOnce() -> String,
) -> Result<Event, InvalidEvent> {
    parse_as(Format::Native, bytes, arrival, unnamed)
}

/// As [`parse`], in other words than our own.
pub fn parse_as(
    format: Format<'_>,
    bytes: &[u8],
    arrival: &Arrival<'_>,
    unnamed: impl FnOnce() -> String,
) -> Result<Event, InvalidEvent> {
    read(format, bytes, arrival, unnamed, owned)
}

/// As [`parse_as`] of bytes that are kept anyway: the event shares with them what it takes as it is.
pub fn parse_shared(
    format: Format<'_>,
    bytes: &Bytes,
    arrival: &Arrival<'_>,
    unnamed: impl FnOnce() -> String,
) -> Result<Event, InvalidEvent> {
    read(format, bytes, arrival, unnamed, |text| match text {
        // A small part must not keep the whole in memory.
        Cow::Borrowed(part)
            if bytes.as_ptr_range().contains(&part.as_ptr()) && part.len() >= bytes.len() / 2 =>
        {
            bytes.slice_ref(part.as_bytes()).try_into().expect("it was text before")
        }
        text => owned(text),
    })
}

/// Under which id something was sent that is no event, where it can be told: its client knows it by that.
pub fn given_id(format: Format<'_>, bytes: &[u8]) -> Option<String> {
    let members = Members::of(text::trimmed(std::str::from_utf8(bytes).ok()?)).ok()?;
    let id = match format {
        Format::Auto | Format::Native => native::id_in(&members),
        Format::Segment { .. } => members.get("messageId"),
        Format::PostHog(_) => members.get("uuid"),
        Format::Amplitude(_) => members.get("insert_id"),
        Format::CloudEvent => members.get("id"),
    };
    let id = id?.value.scalar()?;
    (id.len() <= ID_BYTES_MAX).then(|| id.into_owned())
}

/// The text of what is no event and yet kept, its credentials' values gone from it.
pub fn blank_credentials<'a>(format: Format<'_>, bytes: &'a [u8]) -> Cow<'a, [u8]> {
    let Ok(text) = std::str::from_utf8(bytes) else { return Cow::Borrowed(bytes) };
    let is_token = |it: &Member<'_>| matches!(format, Format::PostHog(_)) && posthog::is_token(it);
    match members::blanked(text, |it| it.is_credential() || is_token(it)) {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

fn owned(text: Cow<'_, str>) -> ByteString {
    match text {
        Cow::Borrowed("{}") => ByteString::from_static("{}"),
        text => text.into_owned().into(),
    }
}

fn read(
    format: Format<'_>,
    bytes: &[u8],
    arrival: &Arrival<'_>,
    unnamed: impl FnOnce() -> String,
    keep: impl Fn(Cow<'_, str>) -> ByteString,
) -> Result<Event, InvalidEvent> {
    let text = text::read(bytes, arrival.bytes_max)?;
    let text = connect::payload(&text);
    let shape = lint::check(text)?;
    let text = members::each_key_once(text, &shape)?;
    let members = Members::of(&text)?;
    if shape.depth > DEPTH_MAX && !native::is_canonical(&members) {
        return Err(InvalidEvent::TooDeep);
    }
    let told = match format {
        Format::Auto if cloudevents::is_one(&members) => cloudevents::read(&members, arrival)?,
        Format::Auto | Format::Native => match flat::Form::of(&members) {
            Some(form) => form.read(&members, &text, arrival.now)?,
            None => native::read(&members, arrival)?,
        },
        Format::Segment { call, skew } => segment::read(&members, call, skew, arrival)?,
        Format::PostHog(skew) => posthog::read(&members, skew, arrival)?,
        Format::Amplitude(skew) => amplitude::read(&members, skew, arrival)?,
        Format::CloudEvent => cloudevents::read(&members, arrival)?,
    };
    let occurred_at = match told.occurred_at {
        Some(at) => at,
        None => time::checked(arrival.received_at, arrival.now, String::new)?,
    };
    Ok(Event {
        event_id: told.event_id.map_or_else(|| unnamed().into(), CompactString::from),
        event_type: told.event_type.into(),
        user_id: told.user_id.into(),
        object: told.object.map(|object| ObjectRef {
            object_type: object.object_type.into(),
            id: object.id.into(),
        }),
        occurred_at,
        source: told.source.map_or_else(|| arrival.source.into(), CompactString::from),
        session_id: told.session_id.map(CompactString::from),
        properties: keep(told.properties),
        context: keep(told.context),
        identity: told.identity,
    })
}

impl Event {
    /// The 128 bits under which judge, Bloom filter and Redis know this event.
    pub fn key(&self, seed: u64) -> EventKey {
        match self.identity {
            Identity::EventId => EventKey::of(&self.event_id, seed),
            Identity::SourceAndId => EventKey::of_cloud_event(&self.source, &self.event_id, seed),
        }
    }

    /// Whose object this is, where the event says so: `properties.ownerId`.
    pub fn owner_id(&self) -> Option<String> {
        memchr::memmem::find(self.properties.as_bytes(), b"wner")?;
        let properties = Members::of(&self.properties).ok()?;
        let owner = properties.get("ownerId").or_else(|| properties.get("owner_id"))?;
        owner.value.scalar().map(Cow::into_owned)
    }

    /// Appends the canonical form. Without `received_at` it is what the gateway writes to `user-actions`, and
    /// `parse` reads the same event from it; with it, what the processor writes to `unique-actions`.
    pub fn write_json(&self, received_at: Option<Timestamp>, out: &mut Vec<u8>) {
        out.reserve(256 + self.event_id.len() + self.properties.len() + self.context.len());
        out.extend_from_slice(b"{\"eventId\":");
        members::write_text(&self.event_id, out);
        out.extend_from_slice(b",\"type\":");
        members::write_text(&self.event_type, out);
        out.extend_from_slice(b",\"userId\":");
        members::write_text(&self.user_id, out);
        if let Some(object) = &self.object {
            out.extend_from_slice(b",\"objectType\":");
            members::write_text(&object.object_type, out);
            out.extend_from_slice(b",\"objectId\":");
            members::write_text(&object.id, out);
        } else if received_at.is_none() && native::names_an_object(&self.properties) {
            // A flat form has none, but its other members look like one.
            out.extend_from_slice(b",\"objectId\":null");
        }
        out.extend_from_slice(b",\"occurredAt\":\"");
        time::write(self.occurred_at, out);
        if let Some(received_at) = received_at {
            out.extend_from_slice(b"\",\"receivedAt\":\"");
            time::write(received_at, out);
        }
        out.extend_from_slice(b"\",\"source\":");
        members::write_text(&self.source, out);
        if let Some(session_id) = &self.session_id {
            out.extend_from_slice(b",\"sessionId\":");
            members::write_text(session_id, out);
        }
        out.extend_from_slice(b",\"properties\":");
        out.extend_from_slice(self.properties.as_bytes());
        out.extend_from_slice(b",\"context\":");
        out.extend_from_slice(self.context.as_bytes());
        out.push(b'}');
    }
}

#[cfg(test)]
mod tests;
