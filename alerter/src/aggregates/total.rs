//! One window of one combination of dimensions: its record among the state, and what is told of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::aggregates::dimensions::Dimensions;
use crate::aggregates::users::Users;
use crate::state::UnreadableState;

/// The version this program writes. A reader refuses later ones: what they mean it cannot know.
const VERSION: u32 = 1;

/// A window of time, from its start to before its end, in milliseconds since 1970. Ordered by end:
/// as they close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    pub end_ms: i64,
    pub start_ms: i64,
}

impl Span {
    /// The window of a size that holds a moment.
    pub fn around(at_ms: i64, size_ms: i64) -> Self {
        let start_ms = at_ms.div_euclid(size_ms) * size_ms;
        Self { start_ms, end_ms: start_ms + size_ms }
    }

    pub fn size_ms(&self) -> i64 {
        self.end_ms - self.start_ms
    }

    /// Under which the state of a window lies: its start and its size before the dimensions.
    pub fn state_key(&self, dimensions: &str) -> String {
        format!("[{},{},{}", self.start_ms, self.size_ms(), rest(dimensions))
    }

    /// The window and the dimensions under which a state lies.
    pub fn of_state_key(key: &str) -> Option<(Self, String)> {
        let (start, others) = key.strip_prefix('[')?.split_once(',')?;
        let (size, rest) = others.split_once(',')?;
        let start_ms: i64 = start.parse().ok()?;
        let size_ms: i64 = size.parse().ok().filter(|size| *size > 0)?;
        Some((Self { start_ms, end_ms: start_ms.checked_add(size_ms)? }, format!("[{rest}")))
    }
}

/// The elements of a key's array, without the bracket that opens it.
fn rest(dimensions: &str) -> &str {
    &dimensions[1..]
}

/// What is known of one window.
#[derive(Debug, Clone, PartialEq)]
pub struct Total {
    pub count: u64,
    pub users: Users,
    /// The count that was told last. A count only grows, so it tells a correction from nothing new.
    pub told: Option<u64>,
    /// True while it waits to be written.
    pub is_changed: bool,
}

#[derive(Serialize, Deserialize)]
struct TotalRecord {
    #[serde(rename = "v")]
    version: u32,
    count: u64,
    users: Users,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    told: Option<u64>,
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

impl Total {
    pub fn none() -> Self {
        Self { count: 0, users: Users::none(), told: None, is_changed: false }
    }

    pub fn is_told(&self) -> bool {
        self.told == Some(self.count)
    }

    /// Bytes in memory, with a key of so many bytes, roughly.
    pub fn bytes(&self, key: usize) -> usize {
        128 + key + self.users.bytes()
    }

    pub fn encode(&self) -> Vec<u8> {
        let record = TotalRecord {
            version: VERSION,
            count: self.count,
            users: self.users.clone(),
            told: self.told,
        };
        serde_json::to_vec(&record).expect("numbers and text become JSON")
    }

    pub fn decode(key: &str, value: &[u8]) -> Result<Self, UnreadableState> {
        let damaged = |source| UnreadableState::Damaged { key: key.to_owned(), source };
        let Version { v: version } = serde_json::from_slice(value).map_err(damaged)?;
        if version != VERSION {
            return Err(UnreadableState::Version { key: key.to_owned(), version });
        }
        let TotalRecord { count, users, told, .. } =
            serde_json::from_slice(value).map_err(damaged)?;
        Ok(Self { count, users, told, is_changed: false })
    }
}

/// What is told of a window: the value of a record of `action-aggregates` (CONTRACT §3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Aggregate {
    pub window_start: String,
    pub window_end: String,
    pub source: String,
    #[serde(rename = "type")]
    pub event_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_id: Option<String>,
    pub count: u64,
    pub users: u64,
    /// Relative standard error of `users`; 0 is exact.
    pub users_error: f64,
}

impl Aggregate {
    pub fn of(span: &Span, dimensions: &str, total: &Total) -> Self {
        let named = Dimensions::of_key(dimensions).expect("a key was checked when it came");
        Self {
            window_start: time(span.start_ms),
            window_end: time(span.end_ms),
            source: named.source.into_owned(),
            event_type: named.event_type.into_owned(),
            object_type: named.object_type.map(Into::into),
            object_id: named.object_id.map(Into::into),
            count: total.count,
            // An estimate may exceed what is possible.
            users: total.users.count().min(total.count),
            users_error: total.users.error(),
        }
    }

    /// Window and dimensions, as an array in JSON.
    pub fn key(&self, dimensions: &str) -> String {
        format!(r#"["{}","{}",{}"#, self.window_start, self.window_end, rest(dimensions))
    }
}

fn time(at_ms: i64) -> String {
    let time = Timestamp::from_millisecond(at_ms).unwrap_or_default();
    format!("{time:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIMENSIONS: &str = r#"["http","like","post"]"#;

    #[test]
    fn a_window_holds_its_start_and_not_its_end() {
        let span = Span { start_ms: 60_000, end_ms: 120_000 };
        assert_eq!(Span::around(60_000, 60_000), span);
        assert_eq!(Span::around(119_999, 60_000), span);
        assert_eq!(Span::around(-1, 60_000).start_ms, -60_000);
    }

    #[test]
    fn a_state_is_found_again_under_its_key() {
        let span = Span::around(1_795_000_000_000, 300_000);
        let key = span.state_key(DIMENSIONS);
        assert_eq!(Span::of_state_key(&key), Some((span, DIMENSIONS.to_owned())));
        for key in ["position", "sealed", "[1,0,\"a\"]", "[a,b]", "[9223372036854775807,1,\"a\"]"] {
            assert_eq!(Span::of_state_key(key), None, "{key}");
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_a_later_version_is_refused() {
        let mut total = Total::none();
        total.count = 3;
        total.users.insert(7);
        for told in [None, Some(2)] {
            total.told = told;
            assert_eq!(Total::decode("k", &total.encode()).unwrap(), total);
        }
        let later = Total::decode("k", br#"{"v":2}"#).unwrap_err();
        assert!(matches!(later, UnreadableState::Version { version: 2, .. }));
    }

    #[test]
    fn every_example_passes_the_struct_unchanged() {
        let folder =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../schemas/examples/aggregate.v1/accepted");
        for file in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let read: Aggregate = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), text.trim());
        }
    }

    #[test]
    fn what_is_told_has_the_members_of_the_contract() {
        let span = Span::around(1_795_000_000_000, 60_000);
        let mut total = Total::none();
        total.count = 2;
        total.users.insert(7);
        let aggregate = Aggregate::of(&span, r#"["http","login"]"#, &total);
        assert_eq!(
            serde_json::to_string(&aggregate).unwrap(),
            r#"{"windowStart":"2026-11-18T11:06:00.000Z","windowEnd":"2026-11-18T11:07:00.000Z","source":"http","type":"login","count":2,"users":1,"usersError":0.0}"#
        );
        assert_eq!(
            aggregate.key(r#"["http","login"]"#),
            r#"["2026-11-18T11:06:00.000Z","2026-11-18T11:07:00.000Z","http","login"]"#
        );
    }
}
