//! Windows against a naive computation: whatever the order, the batches and the restarts.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::action::Action;
use crate::aggregates::dimensions::Grouping;
use crate::aggregates::partials::Partials;

const MINUTE_MS: i64 = 60_000;
const START_MS: i64 = 1_795_000_000_000 / 3_600_000 * 3_600_000;

#[derive(Debug, Clone)]
struct Deed {
    user: u32,
    event_type: &'static str,
    post: Option<u32>,
    at_ms: i64,
}

impl Deed {
    fn json(&self) -> String {
        let at = jiff::Timestamp::from_millisecond(self.at_ms).unwrap();
        let mut action = json!({
            "type": self.event_type, "userId": self.user.to_string(), "source": "http",
            "occurredAt": format!("{at:.3}"),
        });
        if let Some(post) = self.post {
            action["objectType"] = "post".into();
            action["objectId"] = post.to_string().into();
        }
        action.to_string()
    }

    /// The keys under which it is to be counted.
    fn keys(&self, groupings: &[Grouping], sizes_ms: &[i64]) -> BTreeSet<String> {
        let mut keys = BTreeSet::new();
        for size in sizes_ms {
            let start = self.at_ms - self.at_ms.rem_euclid(*size);
            let [start, end] = [start, start + size]
                .map(|it| format!("{:.3}", jiff::Timestamp::from_millisecond(it).unwrap()));
            for grouping in groupings {
                let mut key = vec![start.clone(), end.clone(), "http".into()];
                key.push(self.event_type.into());
                if let Some(post) = self.post {
                    key.push("post".into());
                    key.extend((*grouping == Grouping::Object).then(|| post.to_string()));
                }
                keys.insert(serde_json::to_string(&key).unwrap());
            }
        }
        keys
    }
}

/// Count and users of each window: what is right.
fn naive(deeds: &[Deed], groupings: &[Grouping], sizes_ms: &[i64]) -> BTreeMap<String, (u64, u64)> {
    let mut windows: BTreeMap<String, (u64, BTreeSet<u32>)> = BTreeMap::new();
    for deed in deeds {
        for key in deed.keys(groupings, sizes_ms) {
            let window = windows.entry(key).or_default();
            window.0 += 1;
            window.1.insert(deed.user);
        }
    }
    windows.into_iter().map(|(key, (count, users))| (key, (count, users.len() as u64))).collect()
}

fn plan(sizes_ms: &[i64]) -> Plan {
    Plan {
        sizes_ms: sizes_ms.into(),
        timing: Timing { window_ms: MINUTE_MS, lateness_ms: 10_000, quiet_ms: 5_000 },
        bytes_max: usize::MAX,
        keep_ms: 8 * 86_400_000,
    }
}

/// Two steps without Kafka: what is told, and the state as the topic would hold it.
struct Bench {
    plan: Plan,
    groupings: Vec<Grouping>,
    totals: Totals,
    now: Now,
    told: Vec<(String, Aggregate)>,
    states: Vec<(Arc<str>, Option<Vec<u8>>)>,
    noticed: Noticed,
}

impl Bench {
    fn new(plan: Plan, groupings: &[Grouping]) -> Self {
        let now = Now { wall_ms: START_MS + 86_400_000, steady_ms: 0 };
        Self {
            totals: Totals::new(plan.clone(), now),
            plan,
            groupings: groupings.to_vec(),
            now,
            told: Vec::new(),
            states: Vec::new(),
            noticed: Noticed::default(),
        }
    }

    /// What one transaction of one input partition took in.
    fn batch(&mut self, deeds: &[Deed]) {
        let mut partials = Partials::new(self.groupings.clone().into(), self.plan.slot_ms());
        for deed in deeds {
            partials.add(&Action::parse(deed.json().as_bytes()).unwrap(), deed.at_ms);
        }
        for (key, value) in partials.take() {
            self.totals.observe(&key, &value, self.now).unwrap();
        }
    }

    fn wait(&mut self, ms: i64) {
        self.now.steady_ms += ms;
        self.now.wall_ms += ms;
        self.totals.close(self.now);
        self.commit();
    }

    fn commit(&mut self) {
        let changes = self.totals.take_changes();
        self.told.extend(changes.news);
        self.states.extend(changes.states);
        let noticed = self.totals.take_noticed();
        self.noticed.told += noticed.told;
        self.noticed.corrections += noticed.corrections;
        self.noticed.sealed += noticed.sealed;
        self.noticed.squeezed += noticed.squeezed;
        self.noticed.too_late += noticed.too_late;
    }

    /// Dies and is restored from what was committed.
    fn restart(&mut self) {
        self.totals = Totals::new(self.plan.clone(), self.now);
        for (key, value) in &self.states {
            self.totals.restore(key, value.as_deref(), self.now.wall_ms).unwrap();
        }
        self.totals.resume(self.now);
    }

    /// Silence until everything is told.
    fn end(&mut self) {
        self.totals.clock().follow_wall(Now { wall_ms: i64::MAX / 2, ..self.now });
        for _ in 0..50 {
            self.wait(SETTLE_MS);
        }
        assert!(!self.totals.has_changes());
    }

    /// The last word of each window.
    fn last(&self) -> BTreeMap<String, (u64, u64)> {
        let last = self.told.iter().map(|(key, it)| (key.clone(), (it.count, it.users)));
        last.collect()
    }
}

fn deed(user: u32, post: u32, at_ms: i64) -> Deed {
    Deed { user, event_type: "like", post: Some(post), at_ms }
}

fn any_deed() -> impl Strategy<Value = Deed> {
    let types = prop::sample::select(vec!["like", "view"]);
    let post = prop::option::weighted(0.8, 0..4_u32);
    (0..40_u32, types, post, 0..7_200_000_i64).prop_map(|(user, event_type, post, after_ms)| Deed {
        user,
        event_type,
        post,
        at_ms: START_MS + after_ms,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Late actions of any age, batches of several partitions, deaths before and after commits.
    #[test]
    fn the_last_word_of_each_window_is_what_a_naive_computation_says(
        deeds in prop::collection::vec(any_deed(), 1..400),
        batches in prop::collection::vec((1..40_usize, 0..3_000_i64, 0..10_u8), 1..60),
        sizes in prop::sample::subsequence(vec![MINUTE_MS, 90_000, 5 * MINUTE_MS, 3_600_000], 1..=4),
        groupings in prop::sample::subsequence(vec![Grouping::Type, Grouping::Object], 1..=2),
    ) {
        let mut bench = Bench::new(plan(&sizes), &groupings);
        let mut left = &deeds[..];
        for (length, wait_ms, fate) in batches.iter().cycle() {
            let (batch, rest) = left.split_at(left.len().min(*length));
            if *fate == 0 {
                // It dies with a transaction that never happened; the batch comes again.
                bench.batch(batch);
                bench.restart();
            }
            bench.batch(batch);
            bench.wait(*wait_ms);
            if *fate == 1 {
                bench.restart();
            }
            left = rest;
            if left.is_empty() {
                break;
            }
        }
        bench.end();
        prop_assert_eq!(bench.last(), naive(&deeds, &groupings, &sizes));
        prop_assert_eq!(bench.noticed.too_late, 0);
    }

    /// However little memory there is, nothing is told wrongly: every action is in the last word
    /// of its window, or counted as too late for it.
    #[test]
    fn what_does_not_fit_is_sealed_and_accounted_for(
        deeds in prop::collection::vec(any_deed(), 1..400),
        bytes_max in 0..20_000_usize,
        batch in 1..30_usize,
        restarts in any::<bool>(),
    ) {
        let few = Plan { bytes_max, ..plan(&[MINUTE_MS]) };
        let mut bench = Bench::new(few, &[Grouping::Type]);
        for batch in deeds.chunks(batch) {
            bench.batch(batch);
            bench.wait(100);
            prop_assert!(bench.totals.bytes <= bytes_max);
            if restarts {
                bench.restart();
            }
        }
        bench.end();
        let told: u64 = bench.last().values().map(|(count, _)| count).sum();
        prop_assert_eq!(told + bench.noticed.too_late, deeds.len() as u64);
        prop_assert_eq!(bench.noticed.squeezed, bench.noticed.sealed);
        let right = naive(&deeds, &[Grouping::Type], &[MINUTE_MS]);
        for (key, (count, _)) in bench.last() {
            prop_assert!(count <= right[&key].0);
        }
    }
}

#[test]
fn a_window_is_told_when_it_is_over_and_again_when_something_came_late() {
    let mut bench = Bench::new(plan(&[MINUTE_MS]), &[Grouping::Type]);
    bench.batch(&[deed(1, 1, START_MS), deed(2, 1, START_MS + 59_999)]);
    bench.wait(5_000);
    bench.batch(&[deed(1, 1, START_MS + MINUTE_MS + 9_999)]);
    bench.wait(5_000);
    assert_eq!(bench.told, [], "its lateness has not passed");
    bench.batch(&[deed(1, 1, START_MS + MINUTE_MS + 10_000)]);
    bench.wait(0);
    let counts = |bench: &Bench| -> Vec<_> { bench.told.iter().map(|it| it.1.count).collect() };
    assert_eq!(counts(&bench), [2]);
    bench.batch(&[deed(3, 1, START_MS + 7)]);
    bench.batch(&[deed(3, 1, START_MS + 8)]);
    bench.wait(SETTLE_MS - 1);
    assert_eq!(counts(&bench), [2], "what comes late may have company");
    bench.wait(1);
    assert_eq!(counts(&bench), [2, 4]);
    assert_eq!(bench.told[0].0, bench.told[1].0);
    assert_eq!(bench.told[1].1.users, 3);
    assert_eq!(bench.noticed.corrections, 1);
    bench.wait(60_000);
    assert_eq!(counts(&bench), [2, 4]);
}

#[test]
fn corrections_without_end_do_not_put_off_the_word_for_ever() {
    let mut bench = Bench::new(plan(&[MINUTE_MS]), &[Grouping::Type]);
    bench.totals.clock().follow_wall(bench.now);
    let mut waited = 0;
    while bench.told.is_empty() {
        bench.batch(&[deed(1, 1, START_MS)]);
        bench.wait(100);
        waited += 100;
    }
    assert!(waited <= SETTLE_MS_MAX + 100, "{waited} ms");
}

#[test]
fn a_window_that_has_not_changed_for_long_leaves_the_state() {
    let mut bench = Bench::new(plan(&[MINUTE_MS]), &[Grouping::Object]);
    bench.batch(&(0..100).map(|post| deed(1, post, START_MS)).collect::<Vec<_>>());
    bench.wait(7 * 86_400_000);
    assert_eq!(bench.totals.size(), 100);
    bench.wait(2 * 86_400_000);
    assert_eq!((bench.totals.size(), bench.noticed.sealed), (0, 100));
    assert_eq!(bench.noticed.squeezed, 0);
    let mut held: BTreeMap<_, _> = bench.states.iter().cloned().collect();
    held.retain(|_, value| value.is_some());
    assert_eq!(held.keys().map(|key| &**key).collect::<Vec<_>>(), [SEALED_KEY]);
    bench.restart();
    bench.batch(&[deed(1, 1, START_MS), deed(1, 1, START_MS + MINUTE_MS)]);
    bench.end();
    assert_eq!(bench.noticed.too_late, 1);
    assert_eq!(bench.last().len(), 101);
}

#[test]
fn a_crowd_of_windows_is_told_in_several_transactions() {
    let mut bench = Bench::new(plan(&[MINUTE_MS]), &[Grouping::Object]);
    let crowd = TOLD_MAX as u32 + 5;
    bench.batch(&(0..crowd).map(|post| deed(1, post, START_MS)).collect::<Vec<_>>());
    bench.totals.clock().follow_wall(bench.now);
    bench.wait(SETTLE_MS);
    assert_eq!(bench.told.len(), TOLD_MAX);
    bench.restart();
    bench.end();
    assert_eq!(bench.last().len(), crowd as usize);
    assert_eq!(bench.noticed.corrections, 0);
}

#[test]
fn what_is_sealed_to_save_memory_leaves_it_however_much_comes() {
    let mut bench = Bench::new(Plan { bytes_max: 1, ..plan(&[MINUTE_MS]) }, &[Grouping::Object]);
    let crowd = TOLD_MAX as u32 + 5;
    for minute in 0..3 {
        let at_ms = START_MS + minute * MINUTE_MS;
        bench.batch(&(0..crowd).map(|post| deed(1, post, at_ms)).collect::<Vec<_>>());
    }
    let left = bench.totals.leaving.iter().map(|(_, group)| group.totals.len()).sum::<usize>();
    assert!(left <= TOLD_MAX, "{left} windows are still there");
}

#[test]
fn a_size_that_is_no_longer_asked_for_is_forgotten_without_a_word() {
    let mut bench = Bench::new(plan(&[MINUTE_MS, 3_600_000]), &[Grouping::Type]);
    bench.batch(&[deed(1, 1, START_MS)]);
    bench.wait(0);
    bench.plan = plan(&[MINUTE_MS]);
    bench.restart();
    bench.end();
    assert_eq!(bench.last().len(), 1);
    assert_eq!(bench.totals.size(), 1);
}

#[test]
fn a_key_that_is_not_known_stops_the_restore() {
    let mut totals = Totals::new(plan(&[MINUTE_MS]), Now { wall_ms: 0, steady_ms: 0 });
    let refused = totals.restore("what", Some(b"{}"), 0).unwrap_err();
    assert!(matches!(refused, UnreadableState::Unknown { .. }));
}
