//! What the members of an event will become, told by their names alone: for tables, whose header is known before
//! any row (pure).

use super::{flat, native};

/// The known name that somebody means who writes it in another case or with other separators: `User ID` is
/// `userId`. A known name means itself.
pub fn spelling(name: &str) -> Option<&'static str> {
    let exactly = NAMES.iter().find(|known| **known == name);
    let wanted = normal(name);
    exactly.or_else(|| NAMES.iter().find(|known| normal(known) == wanted)).copied()
}

fn normal(name: &str) -> String {
    let is_separator = |char: &char| matches!(char, ' ' | '-' | '_');
    name.trim().chars().filter(|char| !is_separator(char)).flat_map(char::to_lowercase).collect()
}

/// For each of an event's members the member of the canonical event that it becomes where it is present; `None`
/// stays a property.
pub fn roles(names: &[&str]) -> Vec<Option<&'static str>> {
    match flat::Form::of_names(|name| names.contains(&name)) {
        Some(form) => names.iter().map(|name| form.role(name)).collect(),
        None => native::roles(names),
    }
}

/// The flat form that an event with these members has, called by the type of its objects.
pub fn flat_form(names: &[&str]) -> Option<&'static str> {
    flat::Form::of_names(|name| names.contains(&name)).map(flat::Form::object_type)
}

/// Every name that is read. Of two that differ in separators only the first is meant; the flat forms know no other
/// spelling than theirs.
pub const NAMES: [&str; 52] = [
    "event_name",
    "content_id",
    "userId",
    "event_datetime",
    "sid",
    "client_id",
    "product_id",
    "ts",
    "eventId",
    "event_id",
    "messageId",
    "message_id",
    "uuid",
    "insert_id",
    "insertId",
    "id",
    "type",
    "eventType",
    "event_type",
    "eventName",
    "event",
    "name",
    "action",
    "user_id",
    "distinct_id",
    "distinctId",
    "clientId",
    "anonymousId",
    "anonymous_id",
    "postId",
    "post_id",
    "productId",
    "contentId",
    "itemId",
    "item_id",
    "sku",
    "objectId",
    "object_id",
    "objectType",
    "object_type",
    "occurredAt",
    "occurred_at",
    "timestamp",
    "eventDatetime",
    "time",
    "created_at",
    "createdAt",
    "dt_add",
    "dtAdd",
    "sessionId",
    "session_id",
    "source",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_has_a_role_of_its_own_and_means_itself() {
        for name in NAMES {
            assert!(native::roles(&[name])[0].is_some(), "{name}");
            assert_eq!(spelling(name), Some(name));
        }
    }

    #[test]
    fn case_and_separators_do_not_matter_where_nothing_else_is_meant() {
        for (written, meant) in [
            ("User ID", "userId"),
            ("user-id", "userId"),
            ("USERID", "userId"),
            (" Event Name ", "event_name"),
            ("Product Id", "product_id"),
            ("occurred at", "occurredAt"),
            ("productId", "productId"),
        ] {
            assert_eq!(spelling(written), Some(meant), "{written}");
        }
        assert_eq!(spelling("users id"), None);
    }

    #[test]
    fn the_first_of_several_names_takes_the_role_and_the_others_stay_properties() {
        let of = |names: &[&str]| roles(names);
        assert_eq!(
            of(&["name", "user_id", "type", "price"]),
            [None, Some("userId"), Some("type"), None]
        );
        assert_eq!(of(&["objectType", "postId"]), [None, Some("objectId")]);
        assert_eq!(of(&["objectType", "objectId"]), [Some("objectType"), Some("objectId")]);
    }

    #[test]
    fn a_flat_form_takes_its_own_members_and_no_others() {
        let names = ["event_name", "content_id", "userId", "type", "sid", "event_datetime"];
        assert_eq!(flat_form(&names), Some("content"));
        let expected = ["type", "objectId", "userId", "", "sessionId", "occurredAt"];
        let found = roles(&names).into_iter().map(Option::unwrap_or_default);
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }
}
