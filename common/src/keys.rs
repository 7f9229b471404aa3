//! The Redis keys of CONTRACT: what dashboards read.

use std::borrow::Cow;

use jiff::civil::Date;

/// The hash that holds epoch, state (`live` or `building`) and marks of the counters; in their slot.
pub const COUNTERS: &str = "tm:counters";

/// The number of actions of one type on one object: `post:123:likes`.
pub fn counter(object_type: &str, object_id: &str, event_type: &str) -> String {
    member(object_type, object_id) + &action(event_type)
}

/// The member of an object in the sorted sets: `post:123`.
pub fn member(object_type: &str, object_id: &str) -> String {
    let mut member = String::new();
    write_member(object_type, object_id, &mut member);
    member
}

pub fn write_member(object_type: &str, object_id: &str, out: &mut String) {
    out.push_str(&object_space(object_type));
    out.push(':');
    out.push_str(object_id);
}

/// What follows the member in a counter's key: `:likes`.
pub fn action(event_type: &str) -> String {
    format!(":{}s", encoded(event_type))
}

/// The sorted set of objects of a type by one action: `top_posts` for likes, `top_posts:views`.
pub fn top(object_type: &str, event_type: &str) -> String {
    top_encoded(&object_space(object_type), &encoded(event_type))
}

/// Users active on a UTC day: `dau:2026-11-21`.
pub fn daily_users(day: Date) -> String {
    format!("dau:{day}")
}

/// For a counter's key, the sorted set and the member that must agree with it.
pub fn top_of_counter(key: &str) -> Option<(String, &str)> {
    let (member, action) = key.rsplit_once(':')?;
    let (object_type, _) = member.split_once(':')?;
    Some((top_encoded(object_type, action.strip_suffix('s')?), member))
}

fn top_encoded(object_type: &str, event_type: &str) -> String {
    match event_type {
        "like" => format!("top_{object_type}s"),
        other => format!("top_{object_type}s:{other}s"),
    }
}

/// Users choose these names: a type called like one of our own key spaces gets its first byte
/// encoded, or a string and a sorted set would claim the same key for ever.
fn object_space(object_type: &str) -> Cow<'_, str> {
    let plain = encoded(object_type);
    if plain == "tm" || plain == "dau" || plain.starts_with("top_") {
        return format!("%{:02X}{}", plain.as_bytes()[0], &plain[1..]).into();
    }
    plain
}

fn encoded(name: &str) -> Cow<'_, str> {
    if !name.contains([':', '%', '{', '}']) {
        return name.into();
    }
    name.replace('%', "%25").replace(':', "%3A").replace('{', "%7B").replace('}', "%7D").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likes_of_a_post_are_where_the_contract_says() {
        assert_eq!(counter("post", "123", "like"), "post:123:likes");
        assert_eq!(top("post", "like"), "top_posts");
        assert_eq!(top("post", "view"), "top_posts:views");
        assert_eq!(member("post", "123"), "post:123");
    }

    #[test]
    fn no_user_can_choose_a_key_of_ours() {
        assert_eq!(counter("tm", "counters", "x"), "%74m:counters:xs");
        assert_eq!(counter("top_post", "1", "like"), "%74op_post:1:likes");
        assert_eq!(counter("a:b", "1", "{x}"), "a%3Ab:1:%7Bx%7Ds");
    }

    #[test]
    fn a_counter_leads_back_to_its_sorted_set() {
        for (object_type, id, action) in
            [("post", "1:2", "like"), ("top_x", "9", "view"), ("a:b", "", "s")]
        {
            let key = counter(object_type, id, action);
            let (set, found) = top_of_counter(&key).unwrap();
            assert_eq!((set, found), (top(object_type, action), member(object_type, id).as_str()));
        }
    }
}
