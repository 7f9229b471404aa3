//! Flat events of foreign trackers: recognised by their members, kept whole in `properties`.

use std::borrow::Cow;

use jiff::Timestamp;

use super::members::{self, Member, Members};
use super::{Identity, InvalidEvent, Told, ToldObject, column, identity, time};

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
        Self::of_names(|name| members.get(name).is_some())
    }

    /// The form of an event that has the members `is_there` says.
    pub fn of_names(is_there: impl Fn(&str) -> bool) -> Option<&'static Self> {
        let is_this = |form: &&Self| form.recognised_by.iter().all(|name| is_there(name));
        [&CONTENT, &PRODUCT].into_iter().find(is_this)
    }

    pub fn object_type(&self) -> &'static str {
        self.object_type
    }

    /// The canonical member that this one tells.
    pub fn role(&self, name: &str) -> Option<&'static str> {
        match name {
            "event_name" => Some("type"),
            "eventId" | "event_id" => Some("eventId"),
            "sid" => Some("sessionId"),
            "source" => Some("source"),
            _ if name == self.user_id => Some("userId"),
            _ if name == self.object_id => Some("objectId"),
            _ if self.times.contains(&name) => Some("occurredAt"),
            _ => None,
        }
    }

    /// `text` is the whole event, of which `members` are taken.
    pub fn read<'a>(
        &self,
        members: &Members<'a>,
        text: &'a str,
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
            object: id_of(self.object_id)?
                .map(|id| ToldObject { object_type: Cow::Borrowed(self.object_type), id }),
            occurred_at: time.map(|time| time::read(time, now)).transpose()?,
            // Theirs may mean something else: it is ours only where it can be.
            source: column::source_if_fit(members.get("source")),
            session_id: id_of("sid")?,
            properties: members::without_credentials(text)?,
            context: Cow::Borrowed("{}"),
            identity: Identity::EventId,
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

#[cfg(test)]
mod tests {
    use compact_str::CompactString;
    use serde_json::{Value, json};

    use super::super::tests::{event, refusal};
    use super::super::{Event, ObjectRef};
    use crate::event::identity::hashed;

    fn product() -> Value {
        json!({
            "event_name": "view", "event_datetime": "2026-11-21 09:59:58.123", "event_date": "2026-11-21",
            "client_id": "c1", "product_id": 77, "sid": "s1", "ts": 1795255198, "r": "0.5",
            "platform": "web", "user_agent": "Mozilla/5.0", "price": "9.90", "dt_add": "2026-11-21 10:00:00",
            "event_receive_timestamp": 1795255200, "event_receive_dt_str": "2026-11-21 10:00:00",
        })
    }

    fn content() -> Value {
        json!({
            "event_name": "like", "content_id": "c-9", "userId": 12, "sid": "s1",
            "event_datetime": "2026-11-21 09:59:58", "client_id": "c1", "type": "click",
            "id": "row-1", "session_id": "other", "timestamp": "never", "postId": "5",
        })
    }

    fn with(mut form: Value, name: &str, value: impl Into<Value>) -> String {
        form[name] = value.into();
        form.to_string()
    }

    /// Type, user, object type, object id, session and time.
    fn columns(event: &Event) -> [CompactString; 6] {
        let ObjectRef { object_type, id } = event.object.clone().unwrap();
        let session_id = event.session_id.clone().unwrap();
        let at = event.occurred_at.to_string().into();
        [event.event_type.clone(), event.user_id.clone(), object_type, id, session_id, at]
    }

    #[test]
    fn a_product_event_is_told_by_its_own_members_and_kept_whole() {
        let event = event(product().to_string());
        let expected = ["view", "c1", "product", "77", "s1", "2026-11-21T09:59:58.123Z"];
        assert_eq!(columns(&event), expected);
        assert_eq!(&*event.properties, product().to_string());
        let telling = ["c1", "77", "view", "2026-11-21 09:59:58.123", "s1", "1795255198", "0.5"];
        assert_eq!(event.event_id, hashed(telling));
    }

    #[test]
    fn a_content_event_is_told_by_its_own_members_whatever_others_it_has() {
        let event = event(content().to_string());
        let expected = ["like", "12", "content", "c-9", "s1", "2026-11-21T09:59:58Z"];
        assert_eq!(columns(&event), expected);
        assert_eq!(&*event.properties, content().to_string());
        assert_eq!(event.event_id, hashed(["12", "c-9", "like", "2026-11-21 09:59:58", "s1"]));
    }

    #[test]
    fn what_changes_on_a_second_send_does_not_change_the_id() {
        let first = event(product().to_string()).event_id;
        for name in ["event_date", "dt_add", "event_receive_timestamp", "event_receive_dt_str"] {
            assert_eq!(event(with(product(), name, "later")).event_id, first, "{name}");
        }
        for name in ["client_id", "product_id", "event_name", "sid", "r"] {
            assert_ne!(event(with(product(), name, "x")).event_id, first, "{name}");
        }
    }

    #[test]
    fn absent_null_and_empty_are_the_same_in_the_hash() {
        let mut absent = product();
        absent.as_object_mut().unwrap().remove("sid");
        let id = event(absent.to_string()).event_id;
        assert_eq!(event(with(product(), "sid", Value::Null)).event_id, id);
        assert_eq!(event(with(product(), "sid", "")).event_id, id);
    }

    #[test]
    fn a_form_with_an_empty_telling_member_is_not_that_form() {
        let event = event(with(content(), "content_id", ""));
        assert_eq!((&*event.user_id, event.object), ("c1", None));
        let sent = r#"{"event_name":"view","client_id":null,"userId":"u","a":1}"#;
        assert_eq!(&*super::super::tests::event(sent).properties, r#"{"client_id":null,"a":1}"#);
    }

    #[test]
    fn only_event_id_counts_as_given() {
        assert_eq!(event(with(content(), "event_id", 5)).event_id, "5");
        assert_eq!(event(with(content(), "eventId", "e")).event_id, "e");
        for name in ["messageId", "uuid", "insert_id"] {
            assert_eq!(event(with(content(), name, "e")).event_id.len(), 64, "{name}");
        }
    }

    #[test]
    fn the_second_time_counts_only_where_the_first_is_absent() {
        let event = event(with(product(), "event_datetime", Value::Null));
        assert_eq!(event.occurred_at.as_second(), 1_795_255_198);
        assert_eq!(
            refusal(with(product(), "event_datetime", "x")),
            ("invalid_time", "/event_datetime".into())
        );
    }

    #[test]
    fn without_a_time_of_its_own_a_flat_event_gets_the_name_that_is_drawn_for_it() {
        let sent = r#"{"event_name":"view","client_id":"c1","dt_add":"2026-11-21 10:00:00"}"#;
        assert_eq!(event(sent).event_id, "unnamed-1");
    }

    #[test]
    fn an_array_among_the_telling_members_is_refused_unless_an_id_is_given() {
        let sent = with(product(), "r", json!([1]));
        assert_eq!(refusal(sent), ("unhashable_member", "/r".into()));
        let mut named = product();
        named["eventId"] = "e".into();
        assert_eq!(event(with(named, "r", json!([1]))).event_id, "e");
        let sent = with(product(), "product_id", json!({"a": 1}));
        assert_eq!(refusal(sent), ("invalid_member", "/product_id".into()));
    }

    #[test]
    fn credentials_do_not_stay_among_the_members() {
        assert_eq!(&*event(with(product(), "api_key", "s3")).properties, product().to_string());
    }

    #[test]
    fn a_source_of_theirs_is_ours_only_where_it_can_be() {
        assert_eq!(event(with(product(), "source", "ads")).source, "ads");
        assert_eq!(event(with(product(), "source", json!({"utm": 1}))).source, "http");
    }
}
