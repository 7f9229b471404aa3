//! What makes two events the same one: the id of those that bring none, and the 128 bits the id becomes inside.

use sha2::{Digest, Sha256};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// What makes an event the same as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Identity {
    #[default]
    EventId,
    /// A CloudEvent's id is unique within its source only.
    SourceAndId,
}

/// The key of an event for judge, Bloom filter and Redis. Ordered as its bytes, and as the uuid in Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventKey(pub u128);

impl EventKey {
    /// The id itself when it is a UUID in canonical lower case: time-ordered keys insert faster. Else a hash,
    /// whose seed no client knows.
    pub fn of(event_id: &str, seed: u64) -> Self {
        match canonical_uuid(event_id) {
            Some(uuid) => uuid.into(),
            None => Self(xxh3_128_with_seed(event_id.as_bytes(), seed)),
        }
    }

    /// Never the id itself: two sources may use one UUID.
    pub fn of_cloud_event(source: &str, id: &str, seed: u64) -> Self {
        let text = [source, "\u{1f}", id].concat();
        Self(xxh3_128_with_seed(text.as_bytes(), seed))
    }

    /// Big-endian, as Postgres keeps a uuid.
    pub fn as_bytes(&self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl From<Uuid> for EventKey {
    fn from(uuid: Uuid) -> Self {
        Self(uuid.as_u128())
    }
}

impl From<EventKey> for Uuid {
    fn from(key: EventKey) -> Self {
        Self::from_u128(key.0)
    }
}

fn canonical_uuid(text: &str) -> Option<Uuid> {
    if text.len() != 36 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    Uuid::try_parse_ascii(text.as_bytes()).ok()
}

/// The id of an event that brings none: SHA-256 over the values joined by `|`, in lower-case hex.
pub fn hashed<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for (at, value) in values.into_iter().enumerate() {
        if at > 0 {
            hash.update(b"|");
        }
        hash.update(value.as_bytes());
    }
    let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half)]);
    hash.finalize().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canonical_uuid_is_its_own_key_under_every_seed() {
        let id = "01931f3e-7b1c-7d2a-9f00-00000000abcd";
        let key = EventKey::of(id, 1);
        assert_eq!(key, EventKey::of(id, 2));
        assert_eq!(Uuid::from(key).to_string(), id);
        assert_eq!(key.as_bytes(), *Uuid::parse_str(id).unwrap().as_bytes());
    }

    #[test]
    fn every_other_spelling_is_another_identity() {
        let id = "01931f3e-7b1c-7d2a-9f00-00000000abcd";
        let mut keys = [
            EventKey::of(id, 1),
            EventKey::of(&id.to_uppercase(), 1),
            EventKey::of(&id.replace('-', ""), 1),
            EventKey::of(&format!("{{{id}}}"), 1),
            EventKey::of(&format!("urn:uuid:{id}"), 1),
            EventKey::of("node-next-1795222208506", 1),
        ];
        keys.sort_unstable();
        assert!(keys.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn the_seed_moves_the_keys_of_other_texts() {
        assert_ne!(EventKey::of("evt-1", 1), EventKey::of("evt-1", 2));
    }

    #[test]
    fn a_cloud_event_is_another_in_another_source() {
        let id = "01931f3e-7b1c-7d2a-9f00-00000000abcd";
        let key = EventKey::of_cloud_event("/a", id, 1);
        assert_eq!(key, EventKey(xxh3_128_with_seed(format!("/a\u{1f}{id}").as_bytes(), 1)));
        assert_ne!(key, EventKey::of_cloud_event("/b", id, 1));
        assert_ne!(key, EventKey::of(id, 1));
    }

    #[test]
    fn keys_are_ordered_as_their_bytes() {
        let (low, high) = (EventKey(0xff), EventKey(0x100));
        assert!(low < high && low.as_bytes() < high.as_bytes());
    }

    #[test]
    fn the_hash_is_the_sha256_of_the_joined_values() {
        // printf 'u1|post|123|like|2026-11-21T10:00:00Z|' | sha256sum
        assert_eq!(
            hashed(["u1", "post", "123", "like", "2026-11-21T10:00:00Z", ""]),
            "0a525ddf857f0c11b659ff733922855cccb36112913bfcafcb60e9610cfde178"
        );
    }
}
