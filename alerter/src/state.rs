//! What is known of each object: changed state to the compacted topic, and back.

use std::borrow::Cow;
use std::collections::BTreeMap;

use common::event::ObjectRef;
use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::cooldown::Cooldown;
use crate::windows::Windows;

/// The version this program writes. A reader refuses later ones: what they mean it cannot know.
const VERSION: u32 = 1;

/// Everything the rules remember of one object, for all time.
///
/// Memory, with its key in the map: about 200 bytes, 40 more for each type of action and, once it
/// was liked, 150 and four for each window between its first and last like, at most 64. A post with
/// likes, views and comments takes about half a kilobyte: a million of them half a gigabyte, shared
/// by the instances of the group.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectState {
    counts: Vec<(Box<str>, u64)>,
    owner: Option<Owner>,
    /// Time of the earliest action seen.
    born_ms: i64,
    pub likes: Option<Box<Likes>>,
    /// True while it waits to be written.
    pub is_changed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Owner {
    id: Box<str>,
    /// Named by an action, which outranks whoever created the object.
    is_named: bool,
}

/// The recent likes of one object and what was made of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Likes {
    pub windows: Windows,
    pub cooldown: Cooldown,
    /// Windows with enough likes that were not judged since they changed. Not written: a restart
    /// judges them again, which finds the same.
    pub unjudged: Vec<i64>,
    /// When a window that was over changed last, by the steady clock.
    pub touched_ms: i64,
    /// Since when its windows wait for late actions to end, by the steady clock.
    pub settling_since_ms: Option<i64>,
}

impl ObjectState {
    /// More types of action than any real object has. Beyond it a type is not counted: else one
    /// client could grow a state past what a record may hold, and stop its partition.
    const TYPES_MAX: usize = 1_000;

    pub fn new(born_ms: i64) -> Self {
        Self { counts: Vec::new(), owner: None, born_ms, likes: None, is_changed: false }
    }

    /// Counts one action of a type; returns the new count of all time.
    pub fn count(&mut self, event_type: &str) -> Option<u64> {
        let place = self.counts.iter().position(|(it, _)| &**it == event_type);
        let place = place.unwrap_or(self.counts.len());
        if place == Self::TYPES_MAX {
            return None;
        }
        if place == self.counts.len() {
            self.counts.push((event_type.into(), 0));
        }
        self.counts[place].1 += 1;
        Some(self.counts[place].1)
    }

    /// Learns from an action whose object this is.
    pub fn learn_owner(&mut self, action: &Action<'_>) {
        if self.owner.as_ref().is_some_and(|owner| owner.is_named) {
            return;
        }
        if let Some(owner_id) = action.owner_id() {
            self.owner = Some(Owner { id: owner_id.into(), is_named: true });
        } else if self.owner.is_none() && action.creates_its_object() {
            self.owner = Some(Owner { id: (*action.user_id).into(), is_named: false });
        }
    }

    pub fn owner(&self) -> Option<&str> {
        self.owner.as_ref().map(|owner| &*owner.id)
    }

    pub fn born_ms(&self) -> i64 {
        self.born_ms
    }

    /// Learns of an earlier action; true if that makes the object older.
    pub fn born_by(&mut self, at_ms: i64) -> bool {
        let is_older = at_ms < self.born_ms;
        self.born_ms = self.born_ms.min(at_ms);
        is_older
    }
}

/// The record, version 1. Members that are empty are absent.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StateRecord<'a> {
    #[serde(rename = "v")]
    version: u32,
    born: i64,
    #[serde(borrow)]
    counts: BTreeMap<Cow<'a, str>, u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    owner_named: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    likes: Option<LikesRecord>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LikesRecord {
    /// The length of a window: with another, the numbers below mean nothing.
    window_ms: i64,
    newest: i64,
    counts: Vec<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    fired: Vec<i64>,
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

/// Why a record of the state topic cannot be restored. Going on without it would tell milestones
/// twice, so the daemon stops.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableState {
    #[error("the state of {key} has version {version}; this program knows up to {VERSION}")]
    Version { key: String, version: u32 },
    #[error("the state has a key this program does not know: {key}")]
    Unknown { key: String },
    #[error("the state of {key} is damaged")]
    Damaged { key: String, source: serde_json::Error },
}

/// The state as a record's value.
pub fn encode(state: &ObjectState, window_ms: i64) -> Vec<u8> {
    let record = StateRecord {
        version: VERSION,
        born: state.born_ms,
        counts: state.counts.iter().map(|(name, count)| (Cow::Borrowed(&**name), *count)).collect(),
        owner: state.owner().map(Cow::Borrowed),
        owner_named: state.owner.as_ref().is_some_and(|owner| owner.is_named),
        likes: state.likes.as_ref().map(|likes| LikesRecord {
            window_ms,
            newest: likes.windows.newest(),
            counts: likes.windows.counts().collect(),
            fired: likes.cooldown.fired().to_vec(),
        }),
    };
    serde_json::to_vec(&record).expect("numbers and text always become JSON")
}

/// The state that a record's value holds.
pub fn decode(key: &str, value: &[u8], window_ms: i64) -> Result<ObjectState, UnreadableState> {
    let damaged = |source| UnreadableState::Damaged { key: key.to_owned(), source };
    let Version { v: version } = serde_json::from_slice(value).map_err(damaged)?;
    if version != VERSION {
        return Err(UnreadableState::Version { key: key.to_owned(), version });
    }
    let record: StateRecord<'_> = serde_json::from_slice(value).map_err(damaged)?;
    let is_named = record.owner_named;
    let likes = record.likes.filter(|likes| likes.window_ms == window_ms).map(|likes| {
        Box::new(Likes {
            windows: Windows::of(likes.newest, likes.counts),
            cooldown: Cooldown::of(likes.fired),
            ..Likes::default()
        })
    });
    Ok(ObjectState {
        counts: record.counts.into_iter().map(|(name, count)| (name.into(), count)).collect(),
        owner: record.owner.map(|id| Owner { id: id.into(), is_named }),
        born_ms: record.born,
        likes,
        is_changed: false,
    })
}

/// Appends an object's key, `post:123`. A colon in the type is escaped, so that two objects never
/// share a key.
pub fn write_key(object_type: &str, object_id: &str, key: &mut String) {
    for character in object_type.chars() {
        match character {
            '%' => key.push_str("%25"),
            ':' => key.push_str("%3A"),
            other => key.push(other),
        }
    }
    key.push(':');
    key.push_str(object_id);
}

/// The object that a key names.
pub fn object_of(key: &str) -> ObjectRef {
    let (object_type, id) = key.split_once(':').unwrap_or((key, ""));
    let object_type = object_type.replace("%3A", ":").replace("%25", "%");
    ObjectRef { object_type: object_type.into(), id: id.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(json: &str) -> Action<'_> {
        Action::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut state = ObjectState::new(1_795_000_000_000);
        for _ in 0..3 {
            state.count("like");
        }
        state.count("pl\"ay");
        state.learn_owner(&action(
            r#"{"type":"like","userId":"u","occurredAt":"","properties":{"ownerId":"ä"}}"#,
        ));
        let mut likes = Likes::default();
        likes.windows.add(100);
        likes.windows.add(98);
        likes.cooldown.fire(98);
        state.likes = Some(Box::new(likes));
        let value = encode(&state, 60_000);
        assert_eq!(decode("post:1", &value, 60_000).unwrap(), state);
    }

    #[test]
    fn windows_of_another_length_are_forgotten_and_counts_are_not() {
        let mut state = ObjectState::new(0);
        state.count("like");
        state.likes = Some(Box::default());
        let restored = decode("post:1", &encode(&state, 60_000), 30_000).unwrap();
        assert_eq!(restored.likes, None);
        assert_eq!(restored.counts, state.counts);
    }

    #[test]
    fn a_later_version_is_refused() {
        let error = decode("post:1", br#"{"v":2,"unknown":[]}"#, 60_000).unwrap_err();
        assert!(matches!(error, UnreadableState::Version { version: 2, .. }));
    }

    #[test]
    fn a_named_owner_outranks_the_creator_and_the_first_of_each_stays() {
        let mut state = ObjectState::new(0);
        let created =
            |user: &str| format!(r#"{{"type":"publish","userId":"{user}","occurredAt":""}}"#);
        let named = |user: &str| {
            format!(
                r#"{{"type":"view","userId":"x","occurredAt":"","properties":{{"ownerId":"{user}"}}}}"#
            )
        };
        let told = [created("a"), created("b"), named("c"), named("d"), created("e")];
        let owners: Vec<_> = told
            .iter()
            .map(|json| {
                state.learn_owner(&action(json));
                state.owner().unwrap().to_owned()
            })
            .collect();
        assert_eq!(owners, ["a", "a", "c", "c", "c"]);
    }

    #[test]
    fn a_client_cannot_grow_a_state_without_end() {
        let mut state = ObjectState::new(0);
        let counted = (0..2_000).filter(|it| state.count(&format!("type-{it}")).is_some()).count();
        assert_eq!(counted, 1_000);
        assert_eq!(state.count("type-7"), Some(2));
    }

    #[test]
    fn two_objects_never_share_a_key() {
        for (object_type, id) in
            [("post", "1"), ("a:b", "c"), ("a", "b:c"), ("a%3Ab", "c"), ("", "")]
        {
            let mut key = String::new();
            write_key(object_type, id, &mut key);
            let object = object_of(&key);
            assert_eq!((&*object.object_type, &*object.id), (object_type, id), "{key}");
        }
    }
}
