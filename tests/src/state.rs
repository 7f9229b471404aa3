//! What all the places hold that an event ends up in, and how that differs from what is expected.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Debug, Display};

use crate::events::Expected;

/// How many times each event is somewhere.
pub type Copies = BTreeMap<u64, u64>;

/// Everything the outside can see, read when all followers had caught up.
#[derive(Debug, Default)]
pub struct State {
    /// Records in the input topic.
    pub records: i64,
    pub consumed: i64,
    pub stored: i64,
    pub duplicate: i64,
    pub dead_lettered: i64,
    pub keys: i64,
    pub dead_letters: i64,
    /// Rows of `events` by the number of the event.
    pub rows: Copies,
    /// Rows by event id.
    pub distinct_ids: u64,
    /// Records of `unique-actions`, by the number of the event.
    pub stream: Copies,
    pub stream_ids: BTreeSet<String>,
    /// View `object_counts`: (post, action) → count.
    pub rollups: BTreeMap<(String, String), u64>,
    /// View `daily_active`.
    pub daily_active: BTreeMap<String, u64>,
    /// Plain numbers of Redis.
    pub redis_numbers: BTreeMap<String, u64>,
    pub redis_sets: BTreeMap<String, BTreeMap<String, u64>>,
}

impl State {
    /// Sum of all object counters in Redis.
    pub fn redis_sum(&self) -> u64 {
        let counters = self.redis_numbers.iter().filter(|(key, _)| !key.starts_with("dau:"));
        counters.map(|(_, value)| value).sum()
    }

    /// Nothing when every place holds each expected event exactly once; else what differs, a line
    /// each.
    pub fn differences(&self, expected: &Expected) -> Vec<String> {
        let once: Copies = expected.events.iter().map(|n| (*n, 1)).collect();
        let distinct = expected.events.len() as u64;
        let mut differences = Differences::default();
        differences.of("rows of events", &once, &self.rows);
        differences.of("records of unique-actions", &once, &self.stream);
        differences.of_one("distinct event ids in events", distinct, self.distinct_ids);
        let stream_ids = self.stream_ids.len() as u64;
        differences.of_one("distinct event ids in unique-actions", distinct, stream_ids);
        differences.of_one("event keys", distinct, self.keys);
        differences.of("object_counts", &expected.counts, &self.rollups);
        let active =
            expected.daily_users.iter().map(|(day, users)| (day.clone(), users.len() as u64));
        let active: BTreeMap<_, _> = active.collect();
        differences.of("daily_active", &active, &self.daily_active);
        differences.of("numbers in Redis", &redis_numbers(expected), &self.redis_numbers);
        differences.of("sorted sets in Redis", &redis_sets(expected), &self.redis_sets);
        differences.of_one("consumed, against records", self.records, self.consumed);
        let accounted = self.stored + self.duplicate + self.dead_lettered;
        differences.of_one("sum of outcomes, against consumed", self.consumed, accounted);
        differences.of_one("stored", distinct, self.stored);
        differences.of_one(
            "dead letters, against accounting",
            self.dead_lettered,
            self.dead_letters,
        );
        differences.0
    }
}

/// The tally in one line.
impl Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "records {} = consumed {} = stored {} + duplicate {} + dead-lettered {}; rows {}, \
             keys {}, unique stream {} ({} ids), Redis {}, rollups {}",
            self.records,
            self.consumed,
            self.stored,
            self.duplicate,
            self.dead_lettered,
            self.rows.values().sum::<u64>(),
            self.keys,
            self.stream.values().sum::<u64>(),
            self.stream_ids.len(),
            self.redis_sum(),
            self.rollups.values().sum::<u64>(),
        )
    }
}

fn redis_numbers(expected: &Expected) -> BTreeMap<String, u64> {
    let counts = &expected.counts;
    let counters =
        counts.iter().map(|((post, action), count)| (format!("post:{post}:{action}s"), *count));
    let active = expected.daily_users.iter();
    let active = active.map(|(day, users)| (format!("dau:{day}"), users.len() as u64));
    counters.chain(active).collect()
}

fn redis_sets(expected: &Expected) -> BTreeMap<String, BTreeMap<String, u64>> {
    let mut sets: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for ((post, action), count) in &expected.counts {
        let set = match action.as_str() {
            "like" => "top_posts".to_owned(),
            _ => format!("top_posts:{action}s"),
        };
        sets.entry(set).or_default().insert(format!("post:{post}"), *count);
    }
    sets
}

#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn of_one(&mut self, what: &str, expected: impl Into<i128>, found: impl Into<i128>) {
        let (expected, found): (i128, i128) = (expected.into(), found.into());
        if expected != found {
            self.0.push(format!("{what}: expected {expected}, found {found}"));
        }
    }

    /// Names a few keys of each kind, not all.
    fn of<K: Ord + Debug, V: PartialEq + Debug>(
        &mut self,
        what: &str,
        expected: &BTreeMap<K, V>,
        found: &BTreeMap<K, V>,
    ) {
        let keys: BTreeSet<_> = expected.keys().chain(found.keys()).collect();
        let wrong: Vec<_> =
            keys.into_iter().filter(|key| expected.get(key) != found.get(key)).collect();
        if wrong.is_empty() {
            return;
        }
        let shown = wrong.iter().take(5).map(|key| {
            format!("{key:?}: expected {:?}, found {:?}", expected.get(key), found.get(key))
        });
        let shown: Vec<_> = shown.collect();
        self.0.push(format!("{what}: {} differ, such as {}", wrong.len(), shown.join("; ")));
    }
}
