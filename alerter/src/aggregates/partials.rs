//! Step one: what the actions of one transaction add to the windows, told by dimensions. Pure.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::aggregates::dimensions::{Dimensions, Grouping};
use crate::aggregates::users::Users;

/// The version this program writes; a reader refuses others.
const VERSION: u32 = 1;

/// What was added since it was taken last.
pub struct Partials {
    groupings: Arc<[Grouping]>,
    slot_ms: i64,
    added: HashMap<String, Partial>,
}

/// What one transaction adds under one key of dimensions: the value of a record of `tm.partials`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Partial {
    #[serde(rename = "v")]
    version: u32,
    /// Time of the newest action in it, in milliseconds since 1970.
    pub newest: i64,
    pub slots: Vec<Slot>,
}

/// A stretch of time that no window of any size cuts in two.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// Its start in milliseconds since 1970.
    pub at: i64,
    pub count: u64,
    pub users: Users,
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

/// Why a record is no partial.
#[derive(Debug, thiserror::Error)]
pub enum NotAPartial {
    #[error("no partial")]
    Shape(#[from] serde_json::Error),
    #[error("version {0}, where this program knows {VERSION}")]
    Version(u32),
}

impl Partials {
    /// At least one grouping, none twice; `slot_ms` divides every window.
    pub fn new(groupings: Arc<[Grouping]>, slot_ms: i64) -> Self {
        Self { groupings, slot_ms, added: HashMap::new() }
    }

    pub fn add(&mut self, action: &Action<'_>, at_ms: i64) {
        let user = Users::hash(&action.user_id);
        // What has no object is the same by any grouping, and counts once.
        let groupings = if action.object().is_some() { self.groupings.len() } else { 1 };
        for grouping in &self.groupings[..groupings] {
            let key = Dimensions::of(action, *grouping).key();
            let partial = self.added.entry(key).or_insert_with(Partial::new);
            partial.add(at_ms, self.slot_ms, user);
        }
    }

    /// The records that tell it.
    pub fn take(&mut self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let told = self.added.drain().map(|(key, partial)| (key.into_bytes(), partial.encode()));
        told.collect()
    }
}

impl Partial {
    fn new() -> Self {
        Self { version: VERSION, newest: i64::MIN, slots: Vec::new() }
    }

    fn add(&mut self, at_ms: i64, slot_ms: i64, user: u64) {
        let at = at_ms.div_euclid(slot_ms) * slot_ms;
        self.newest = self.newest.max(at_ms);
        // Most actions follow each other.
        let place = match self.slots.iter().rposition(|slot| slot.at == at) {
            Some(place) => place,
            None => {
                self.slots.push(Slot { at, count: 0, users: Users::none() });
                self.slots.len() - 1
            }
        };
        self.slots[place].count += 1;
        self.slots[place].users.insert(user);
    }

    fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and text become JSON")
    }

    /// The dimensions' key and what is added to them.
    pub fn decode<'a>(key: &'a [u8], value: &[u8]) -> Result<(Cow<'a, str>, Self), NotAPartial> {
        let key = String::from_utf8_lossy(key);
        Dimensions::of_key(&key)?;
        let Version { v: version } = serde_json::from_slice(value)?;
        match version {
            VERSION => Ok((key, serde_json::from_slice(value)?)),
            other => Err(NotAPartial::Version(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(partials: &mut Partials, user: &str, object: &str, at_ms: i64) {
        let json = format!(
            r#"{{"type":"like","userId":"{user}","source":"http","occurredAt":""{object}}}"#
        );
        partials.add(&Action::parse(json.as_bytes()).unwrap(), at_ms);
    }

    fn told(partials: &mut Partials) -> Vec<(String, Partial)> {
        let records = partials.take();
        let decode = |(key, value): &(Vec<u8>, Vec<u8>)| {
            let (key, partial) = Partial::decode(key, value).unwrap();
            (key.into_owned(), partial)
        };
        let mut told: Vec<_> = records.iter().map(decode).collect();
        told.sort_by(|a, b| a.0.cmp(&b.0));
        told
    }

    #[test]
    fn a_transaction_tells_each_of_its_dimensions_once() {
        let mut partials = Partials::new([Grouping::Type, Grouping::Object].into(), 1_000);
        let post = |id: u32| format!(r#","objectType":"post","objectId":"{id}""#);
        add(&mut partials, "a", &post(1), 500);
        add(&mut partials, "b", &post(2), -1);
        add(&mut partials, "b", &post(2), 999);
        add(&mut partials, "a", "", 5_000);
        let told = told(&mut partials);
        let slots = |at: usize| -> Vec<_> {
            told[at].1.slots.iter().map(|it| (it.at, it.count, it.users.count())).collect()
        };
        let keys: Vec<_> = told.iter().map(|(key, _)| &**key).collect();
        assert_eq!(keys[0], r#"["http","like","post","1"]"#);
        assert_eq!(keys[1], r#"["http","like","post","2"]"#);
        assert_eq!(keys[2..], [r#"["http","like","post"]"#, r#"["http","like"]"#]);
        assert_eq!(slots(0), [(0, 1, 1)]);
        assert_eq!(slots(1), [(-1_000, 1, 1), (0, 1, 1)]);
        assert_eq!(slots(2), [(0, 2, 2), (-1_000, 1, 1)]);
        assert_eq!(slots(3), [(5_000, 1, 1)], "what has no object counts once");
        assert_eq!(told[2].1.newest, 999);
        assert!(partials.take().is_empty());
    }

    #[test]
    fn what_is_no_partial_is_refused() {
        let key = br#"["http","like"]"#;
        let value = br#"{"v":1,"newest":0,"slots":[]}"#;
        assert!(Partial::decode(key, value).is_ok());
        assert!(Partial::decode(b"http", value).is_err());
        assert!(Partial::decode(key, b"{}").is_err());
        let later = br#"{"v":2,"whatever":0}"#;
        assert!(matches!(Partial::decode(key, later), Err(NotAPartial::Version(2))));
    }
}
