//! Our own form, under all its names: which member becomes which column; the rest are properties.

use std::borrow::Cow;

use super::members::{self, Member, Members};
use super::{Arrival, Identity, InvalidEvent, Told, ToldObject, column, identity, time};

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

/// The member that is the event's id.
pub fn id_in<'m, 'a>(members: &'m Members<'a>) -> Option<&'m Member<'a>> {
    let rank = |it: &Member<'a>| match place_of(&it.name) {
        Some((Column::EventId, rank)) if !it.value.is_absent() => Some(rank),
        _ => None,
    };
    members.iter().filter_map(|it| Some((rank(it)?, it))).min_by_key(|it| it.0).map(|it| it.1)
}

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

/// For each member the canonical one that it becomes where all of them are present.
pub fn roles(names: &[&str]) -> Vec<Option<&'static str>> {
    let mut best = [None; COLUMNS];
    for (at, name) in names.iter().enumerate() {
        let Some((column, rank)) = place_of(name) else { continue };
        let best = &mut best[column as usize];
        if best.is_none_or(|(lowest, _)| rank < lowest) {
            *best = Some((rank, at));
        }
    }
    if best[Column::Object as usize].is_some_and(|(_, at)| object_type(names[at]).is_some()) {
        best[Column::ObjectType as usize] = None;
    }
    let mut roles = vec![None; names.len()];
    for (best, role) in best.iter().zip(ROLES) {
        if let Some((_, at)) = *best {
            roles[at] = Some(role);
        }
    }
    roles
}

/// The canonical name of each column, in the order of `Column`.
const ROLES: [&str; COLUMNS] = [
    "eventId",
    "type",
    "userId",
    "objectId",
    "objectType",
    "occurredAt",
    "sessionId",
    "source",
    "properties",
    "context",
];

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

/// The object that properties name; `within` is their pointer.
pub fn object_in<'a>(
    properties: &Members<'a>,
    within: &'static str,
) -> Result<Option<ToldObject<'a>>, InvalidEvent> {
    Chosen::of(properties, within).object()
}

/// The member that says who did it, under any of its names.
pub fn user_in<'m, 'a>(members: &'m Members<'a>) -> Option<&'m Member<'a>> {
    Chosen::of(members, "").get(Column::User)
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

pub fn read<'a>(members: &Members<'a>, arrival: &Arrival<'a>) -> Result<Told<'a>, InvalidEvent> {
    let mut chosen = Chosen::of(members, "");
    let event_type = chosen.get(Column::Type).ok_or(InvalidEvent::MissingType)?;
    let user_id = match chosen.get(Column::User) {
        Some(user) => column::id(user, "")?,
        None => Cow::Borrowed(arrival.user.ok_or(InvalidEvent::MissingUser)?),
    };
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
        Some(_) => Cow::Owned(members::splice(chosen.rest(members), given.as_ref())),
        None => members::without_credentials(given_text)?,
    };
    let mut told = Told {
        event_id: chosen.get(Column::EventId).map(|it| column::id(it, "")).transpose()?,
        event_type: column::type_name(event_type, "")?,
        user_id,
        object: chosen.object()?,
        occurred_at: time.map(|time| time::read(time, arrival.now)).transpose()?,
        source: chosen.get(Column::Source).map(column::source).transpose()?,
        session_id: chosen.get(Column::Session).map(|it| column::id(it, "")).transpose()?,
        properties,
        context: members::without_credentials(context)?,
        identity: Identity::EventId,
    };
    told.name_by(time);
    Ok(told)
}

/// What an event without an id but with a time of its own is known by.
pub fn hashed(told: &Told<'_>, time: &Member<'_>) -> String {
    let (object_type, object_id) =
        told.object.as_ref().map_or(("", ""), |it| (&*it.object_type, &*it.id));
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
    fn object(&self) -> Result<Option<ToldObject<'a>>, InvalidEvent> {
        let Some(object) = self.0[Column::Object as usize] else { return Ok(None) };
        let id = column::id(object.member, object.within)?;
        let object_type =
            match (object_type(&object.member.name), self.0[Column::ObjectType as usize]) {
                (Some(kind), _) => Cow::Borrowed(kind),
                (None, Some(kind)) => column::type_name(kind.member, kind.within)?,
                (None, None) => Cow::Borrowed("object"),
            };
        Ok(Some(ToldObject { object_type, id }))
    }

    /// The members that are properties: no columns, and not what `write_json` adds.
    fn rest(&self, members: &'m Members<'a>) -> impl Iterator<Item = &'m Member<'a>> {
        members.iter().filter(|member| {
            !self.becomes_a_column(member)
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

#[cfg(test)]
mod tests {
    use compact_str::CompactString;
    use serde_json::{Value, json};

    use super::super::tests::{event, now, refusal};
    use super::super::{Event, ObjectRef};
    use crate::event::identity::hashed;

    fn of(mut members: Value) -> Event {
        for (name, value) in [("type", "like"), ("userId", "u")] {
            let members = members.as_object_mut().unwrap();
            members.entry(name).or_insert_with(|| value.into());
        }
        event(members.to_string())
    }

    fn properties(event: &Event) -> Value {
        serde_json::from_str(&event.properties).unwrap()
    }

    fn object(event: &Event) -> Option<(&str, &str)> {
        let ObjectRef { object_type, id } = event.object.as_ref()?;
        Some((object_type, id))
    }

    /// Takes the best-ranked name away again and again: the next takes its place, the others are properties.
    fn must_rank(names: &[&str], others: &str, column: impl Fn(Event) -> CompactString) {
        for (rank, best) in names.iter().enumerate() {
            let members = names[rank..].iter().rev().map(|name| format!(r#""{name}":"by {name}""#));
            let members = members.collect::<Vec<_>>().join(",");
            let event = event(format!("{{{members}{others}}}"));
            let properties = properties(&event);
            assert_eq!(column(event), format!("by {best}"));
            for outranked in &names[rank + 1..] {
                assert_eq!(properties[outranked], format!("by {outranked}"));
            }
            assert_eq!(properties.as_object().unwrap().len(), names.len() - rank - 1);
        }
    }

    #[test]
    fn of_the_names_of_a_column_the_first_in_the_contract_wins() {
        let (a_type, a_user) = (r#","type":"t""#, r#","userId":"u""#);
        let ids = [
            "eventId",
            "event_id",
            "messageId",
            "message_id",
            "uuid",
            "insert_id",
            "insertId",
            "id",
        ];
        must_rank(&ids, &format!("{a_type}{a_user}"), |event| event.event_id);
        let sessions = ["sessionId", "session_id", "sid"];
        let session = |event: Event| event.session_id.unwrap();
        must_rank(&sessions, &format!("{a_type}{a_user}"), session);
        let types = [
            "type",
            "eventType",
            "event_type",
            "event_name",
            "eventName",
            "event",
            "name",
            "action",
        ];
        must_rank(&types, a_user, |event| event.event_type);
        let users = [
            "userId",
            "user_id",
            "distinct_id",
            "distinctId",
            "client_id",
            "clientId",
            "anonymousId",
            "anonymous_id",
        ];
        must_rank(&users, a_type, |event| event.user_id);
    }

    #[test]
    fn of_the_names_of_a_time_the_first_in_the_contract_wins() {
        let names = [
            "occurredAt",
            "occurred_at",
            "timestamp",
            "event_datetime",
            "eventDatetime",
            "time",
            "ts",
            "created_at",
            "createdAt",
            "dt_add",
            "dtAdd",
        ];
        for rank in 0..names.len() {
            let members = names.iter().enumerate().skip(rank).rev();
            let members =
                members.map(|(rank, name)| format!(r#""{name}":{}"#, 1_700_000_000 + rank));
            let members = members.collect::<Vec<_>>().join(",");
            let event = event(format!(r#"{{"type":"like","userId":"u",{members}}}"#));
            assert_eq!(event.occurred_at.as_second(), 1_700_000_000 + rank as i64);
            assert_eq!(properties(&event).as_object().unwrap().len(), names.len() - rank - 1);
        }
    }

    #[test]
    fn the_name_of_an_object_id_says_its_type() {
        for (names, object_type) in [
            (&["postId", "post_id"][..], "post"),
            (&["productId", "product_id"], "product"),
            (&["contentId", "content_id"], "content"),
            (&["itemId", "item_id", "sku"], "item"),
            (&["objectId", "object_id"], "object"),
        ] {
            for name in names {
                let top = of(json!({*name: 5, "a": 1}));
                assert_eq!(object(&top), Some((object_type, "5")), "{name}");
                assert_eq!(properties(&top), json!({"a": 1}), "{name}");
                let given = of(json!({"properties": {*name: 5, "a": 1}}));
                assert_eq!(object(&given), Some((object_type, "5")), "{name}");
                assert_eq!(properties(&given), json!({*name: 5, "a": 1}), "{name}");
            }
        }
    }

    #[test]
    fn of_the_names_of_an_object_the_first_in_the_contract_wins() {
        let names = [
            "postId",
            "post_id",
            "productId",
            "product_id",
            "contentId",
            "content_id",
            "itemId",
            "item_id",
            "sku",
            "objectId",
            "object_id",
        ];
        let others = r#","type":"t","userId":"u""#;
        must_rank(&names, others, |event| event.object.unwrap().id);
    }

    #[test]
    fn of_several_objects_the_first_in_the_contract_wins_and_the_top_level_before_the_properties() {
        let event = of(json!({"objectId": 1, "objectType": "video", "sku": 2, "product_id": 3}));
        assert_eq!(object(&event), Some(("product", "3")));
        assert_eq!(properties(&event), json!({"objectId": 1, "objectType": "video", "sku": 2}));
        let event = of(json!({"objectId": 1, "properties": {"postId": 2}}));
        assert_eq!(object(&event), Some(("object", "1")));
    }

    #[test]
    fn an_object_type_may_stand_above_below_or_beside_the_id() {
        for members in [
            json!({"objectId": 1, "object_type": "video"}),
            json!({"objectId": 1, "properties": {"objectType": "video"}}),
            json!({"objectType": "video", "properties": {"object_id": 1}}),
            json!({"properties": {"objectType": "video", "objectId": 1}}),
        ] {
            assert_eq!(object(&of(members.clone())), Some(("video", "1")), "{members}");
        }
    }

    #[test]
    fn an_object_type_alone_is_a_property() {
        let event = of(json!({"objectType": "video", "properties": {"a": 1}}));
        assert_eq!(
            (object(&event), properties(&event)),
            (None, json!({"objectType": "video", "a": 1}))
        );
    }

    #[test]
    fn null_and_an_empty_string_are_absent_and_the_next_name_counts() {
        let event =
            of(json!({"eventId": null, "id": "e", "userId": "", "client_id": 7, "postId": ""}));
        assert_eq!((&*event.event_id, &*event.user_id, object(&event)), ("e", "7", None));
        assert_eq!(properties(&event), json!({"eventId": null, "userId": "", "postId": ""}));
    }

    #[test]
    fn ids_are_kept_as_written() {
        let event =
            event(r#"{"type":"like","userId":1.50e2,"postId":true,"eventId":" A\u00e9\/ "}"#);
        assert_eq!((&*event.user_id, &*event.event_id), ("1.50e2", " Aé/ "));
        assert_eq!(object(&event), Some(("post", "true")));
    }

    #[test]
    fn given_properties_stay_in_their_own_text() {
        let event = event(r#"{"type":"like","userId":"u","properties":{"price": 9.90,"b":[1 ]}}"#);
        assert_eq!(&*event.properties, r#"{"price": 9.90,"b":[1 ]}"#);
    }

    #[test]
    fn given_properties_win_over_members_beside_them() {
        let event = event(r#"{"type":"like","userId":"u","a":1.0,"b":2,"properties":{"b":3}}"#);
        assert_eq!(&*event.properties, r#"{"a":1.0,"b":3}"#);
    }

    #[test]
    fn credentials_are_never_stored() {
        for name in ["api_key", "apiKey", "writeKey", "write_key", "api\\u005fkey"] {
            let text = format!(
                r#"{{"type":"like","userId":"u","{name}":"s3","properties":{{"a":1,"{name}":"s3"}},"context":{{"{name}":"s3"}}}}"#
            );
            let event = event(&text);
            assert_eq!((&*event.properties, &*event.context), (r#"{"a":1}"#, "{}"), "{text}");
        }
        assert_eq!(&*of(json!({"properties": {"api_key": 1}})).properties, "{}");
        assert_eq!(&*of(json!({"properties": {"key": 1}})).properties, r#"{"key":1}"#);
    }

    #[test]
    fn only_our_own_form_leaves_its_received_at_behind() {
        let ours = json!({"eventId": "e", "occurredAt": 1, "receivedAt": 2, "source": "s", "properties": {}, "context": {}});
        assert_eq!(properties(&of(ours.clone())), json!({}));
        let mut theirs = ours;
        theirs["other"] = 1.into();
        assert_eq!(properties(&of(theirs)), json!({"receivedAt": 2, "other": 1}));
    }

    #[test]
    fn a_source_that_is_named_replaces_that_of_the_way_in() {
        assert_eq!(of(json!({"source": "web"})).source, "web");
        assert_eq!(of(json!({"source": ""})).source, "http");
    }

    #[test]
    fn a_time_of_its_own_makes_an_id_of_the_telling_fields() {
        let sent =
            r#"{"type":"like","user_id":"u|1","sku":7,"time":1795255200.50,"sid":"s","a":1}"#;
        let expected = hashed(["u|1", "item", "7", "like", "1795255200.50", "s"]);
        assert_eq!(event(sent).event_id, expected);
        let bare = event(
            r#"{"type":"like","userId":"u","dt_add":"2026-11-21 \u0031"}"#.replace(" \\u0031", ""),
        );
        assert_eq!(bare.event_id, hashed(["u", "", "", "like", "2026-11-21", ""]));
    }

    #[test]
    fn an_event_without_id_and_time_gets_the_name_that_is_drawn_for_it() {
        let event = of(json!({"timestamp": null}));
        assert_eq!(
            (&*event.event_id, event.occurred_at.as_millisecond()),
            ("unnamed-1", now().as_millisecond())
        );
    }

    #[test]
    fn what_is_missing_is_named_under_the_name_to_send() {
        assert_eq!(refusal(r#"{"userId":"u"}"#), ("missing_type", "/type".into()));
        assert_eq!(refusal(r#"{"type":"like"}"#), ("missing_user", "/userId".into()));
        assert_eq!(refusal("{}"), ("missing_type", "/type".into()));
    }

    #[test]
    fn what_does_not_fit_is_refused_at_its_place_and_never_cut() {
        let (fits_id, fits_type) = ("é".repeat(128), "é".repeat(64));
        let (long_id, long_type) = (format!("{fits_id}x"), format!("{fits_type}x"));
        for (name, code) in [
            ("eventId", "id_too_long"),
            ("userId", "id_too_long"),
            ("post_id", "id_too_long"),
            ("sid", "id_too_long"),
            ("type", "type_too_long"),
            ("source", "source_too_long"),
        ] {
            let (fits, long) =
                if code == "id_too_long" { (&fits_id, &long_id) } else { (&fits_type, &long_type) };
            of(json!({name: fits}));
            let mut sent = json!({"type": "like", "userId": "u"});
            sent[name] = long.as_str().into();
            assert_eq!(refusal(sent.to_string()), (code, format!("/{name}")));
        }
        let sent = json!({"type": "like", "userId": "u", "properties": {"objectId": 1, "objectType": long_type}});
        assert_eq!(refusal(sent.to_string()), ("type_too_long", "/properties/objectType".into()));
    }

    #[test]
    fn a_member_of_the_wrong_kind_is_refused_at_its_place() {
        for name in
            ["eventId", "userId", "sku", "session_id", "type", "source", "properties", "context"]
        {
            let mut sent = json!({"type": "like", "userId": "u"});
            sent[name] = json!([1]);
            assert_eq!(refusal(sent.to_string()), ("invalid_member", format!("/{name}")));
        }
        let sent = r#"{"type":"like","userId":"u","properties":{"postId":{}}}"#;
        assert_eq!(refusal(sent), ("invalid_member", "/properties/postId".into()));
    }

    #[test]
    fn a_time_that_outranks_the_others_must_be_one() {
        let sent = r#"{"type":"like","userId":"u","time":1795255200,"timestamp":"soon"}"#;
        assert_eq!(refusal(sent), ("invalid_time", "/timestamp".into()));
        let sent = r#"{"type":"like","userId":"u","ts":4102444800}"#;
        assert_eq!(refusal(sent), ("time_out_of_range", "/ts".into()));
    }
}
