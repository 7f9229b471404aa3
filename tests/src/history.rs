//! Random histories, and what statistics must say of them, worked out event by event.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};
use serde_json::{Value, json};

use crate::random::Random;

const DAY_US: u64 = 86_400_000_000;
const TYPES: [&str; 4] = ["view", "view", "like", "purchase"];
const SOURCES: [&str; 3] = ["web", "app", "import"];
/// Moments of a day at which something goes wrong first, in seconds.
const EDGES: [u64; 6] =
    [0, 6 * 3_600, 18 * 3_600 + 1_800, 18 * 3_600 + 900, 22 * 3_600, 23 * 3_600];

#[derive(Debug, Clone)]
pub struct Happened {
    pub event_type: &'static str,
    pub user: String,
    pub object: Option<(&'static str, String)>,
    pub source: &'static str,
    pub at: Timestamp,
}

impl Happened {
    /// As a producer sends it.
    pub fn json(&self, id: &str) -> String {
        let mut event = json!({
            "eventId": id, "type": self.event_type, "userId": self.user, "source": self.source,
            "occurredAt": self.at.to_string(),
        });
        if let Some((object_type, object_id)) = &self.object {
            event["objectType"] = (*object_type).into();
            event["objectId"] = object_id.as_str().into();
        }
        event.to_string()
    }
}

/// Events of some weeks from a day on, in no order: many at the very edges of days.
pub fn random(random: &mut Random, from: Timestamp, days: u64, count: usize) -> Vec<Happened> {
    let users = 20 + random.below(100);
    (0..count)
        .map(|_| {
            let day = random.below(days) * DAY_US;
            let within = match random.below(3) {
                0 => {
                    let edge = EDGES[random.index(EDGES.len())] * 1_000_000;
                    (edge + DAY_US + random.below(3) * 1_000 - 1_000) % DAY_US
                }
                1 => random.below(86_400) * 1_000_000,
                // An event's time is kept in milliseconds.
                _ => random.below(DAY_US / 1_000) * 1_000,
            };
            let object = match random.below(5) {
                0 => None,
                1 => Some(("product", format!("x{}", random.below(10)))),
                _ => Some(("post", random.below(40).to_string())),
            };
            let at_us = from.as_microsecond() + (day + within) as i64;
            Happened {
                event_type: TYPES[random.index(TYPES.len())],
                user: format!("u{}", (random.unit() * random.unit() * users as f64) as u64),
                object,
                source: SOURCES[random.index(SOURCES.len())],
                at: Timestamp::from_microsecond(at_us).expect("a moment near `from`"),
            }
        })
        .collect()
}

/// A question as its parameters have it.
#[derive(Debug, Clone)]
pub struct Asked {
    pub from: Timestamp,
    pub to: Timestamp,
    pub zone: TimeZone,
    pub filters: BTreeMap<&'static str, String>,
}

impl Asked {
    fn counts(&self, it: &Happened) -> bool {
        let has = |name: &str, value: Option<&str>| {
            self.filters.get(name).is_none_or(|wanted| value == Some(wanted.as_str()))
        };
        let object = it.object.as_ref();
        has("type", Some(it.event_type))
            && has("userId", Some(&it.user))
            && has("source", Some(it.source))
            && has("objectType", object.map(|it| it.0))
            && has("objectId", object.map(|it| it.1.as_str()))
    }

    fn is_in(&self, it: &Happened) -> bool {
        self.from <= it.at && it.at < self.to
    }

    fn chosen<'a>(&self, all: &'a [Happened]) -> impl Iterator<Item = &'a Happened> {
        all.iter().filter(|it| self.is_in(it) && self.counts(it))
    }

    fn day(&self, at: Timestamp, unit: &str) -> Date {
        let day = at.to_zoned(self.zone.clone()).date();
        match unit {
            "day" => day,
            "week" => day - i64::from(day.weekday().to_monday_zero_offset()).days(),
            "month" => day.first_of_month(),
            other => unreachable!("no unit {other}"),
        }
    }

    /// Day → users, without days on which nobody was active.
    pub fn dau(&self, all: &[Happened], unit: &str) -> BTreeMap<String, u64> {
        let mut users: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for it in self.chosen(all) {
            users.entry(self.day(it.at, unit).to_string()).or_default().insert(&it.user);
        }
        users.into_iter().map(|(day, users)| (day, users.len() as u64)).collect()
    }

    /// (start, group) → (count, users), without those that are empty.
    pub fn activity(
        &self,
        all: &[Happened],
        unit: &str,
        by: &str,
    ) -> BTreeMap<(Timestamp, String), (u64, u64)> {
        let mut sums: BTreeMap<_, (u64, BTreeSet<&str>)> = BTreeMap::new();
        for it in self.chosen(all) {
            let group = match by {
                "type" => it.event_type,
                "source" => it.source,
                _ => "",
            };
            let sum = sums.entry((self.start(it.at, unit), group.to_owned())).or_default();
            sum.0 += 1;
            sum.1.insert(&it.user);
        }
        sums.into_iter().map(|(at, (count, users))| (at, (count, users.len() as u64))).collect()
    }

    fn start(&self, at: Timestamp, unit: &str) -> Timestamp {
        let local: Zoned = at.to_zoned(self.zone.clone());
        let seconds = match unit {
            "minute" => i64::from(local.second()),
            "hour" => i64::from(local.second()) + 60 * i64::from(local.minute()),
            _ => return local.start_of_day().expect("a day begins").timestamp(),
        };
        Timestamp::from_second(at.as_second() - seconds).expect("a moment before")
    }

    /// Type → (count, users).
    pub fn top_events(&self, all: &[Happened]) -> BTreeMap<String, (u64, u64)> {
        let mut sums: BTreeMap<String, (u64, BTreeSet<&str>)> = BTreeMap::new();
        for it in self.chosen(all) {
            let sum = sums.entry(it.event_type.to_owned()).or_default();
            sum.0 += 1;
            sum.1.insert(&it.user);
        }
        sums.into_iter().map(|(name, (count, users))| (name, (count, users.len() as u64))).collect()
    }

    /// By count, then by name.
    pub fn top_objects(&self, all: &[Happened], limit: usize) -> Vec<(String, String, u64)> {
        let mut counts: BTreeMap<_, u64> = BTreeMap::new();
        for (object_type, id) in self.chosen(all).filter_map(|it| it.object.as_ref()) {
            *counts.entry(((*object_type).to_owned(), id.clone())).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().map(|((of, id), n)| (of, id, n)).collect();
        counts.sort_by_key(|it| std::cmp::Reverse(it.2));
        counts.truncate(limit);
        counts
    }

    /// Cohort → how many of it were active on each of the days.
    pub fn retention(&self, all: &[Happened], unit: &str, days: &[String]) -> Vec<Vec<u64>> {
        let mut firsts: BTreeMap<&str, Timestamp> = BTreeMap::new();
        let mut active: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for it in all {
            let first = firsts.entry(&it.user).or_insert(it.at);
            *first = it.at.min(*first);
            active.entry(self.day(it.at, unit).to_string()).or_default().insert(&it.user);
        }
        let nobody = BTreeSet::new();
        let row = |(at, day): (usize, &String)| {
            let is_of = |user: &&&str| self.day(firsts[**user], unit).to_string() == *day;
            let later = days[at..].iter().map(|it| active.get(it).unwrap_or(&nobody));
            later.map(|users| users.iter().filter(is_of).count() as u64).collect()
        };
        days.iter().enumerate().map(row).collect()
    }

    /// Users who got to each step.
    pub fn funnel(&self, all: &[Happened], steps: &[&str], within: jiff::Span) -> Vec<u64> {
        let mut of_user: BTreeMap<&str, Vec<&Happened>> = BTreeMap::new();
        for it in all.iter().filter(|it| self.counts(it)) {
            of_user.entry(&it.user).or_default().push(it);
        }
        let mut reached = vec![0; steps.len()];
        for events in of_user.values() {
            let begins = |it: &&&Happened| it.event_type == steps[0] && self.is_in(it);
            let depth = events.iter().filter(begins).map(|first| {
                let last = first.at + within;
                1 + further(events, &mut vec![*first], &steps[1..], last)
            });
            let depth = depth.max().unwrap_or(0);
            reached.iter_mut().take(depth).for_each(|it| *it += 1);
        }
        reached
    }
}

/// Every way to go on is tried.
fn further<'a>(
    events: &[&'a Happened],
    taken: &mut Vec<&'a Happened>,
    steps: &[&str],
    last: Timestamp,
) -> usize {
    let Some((step, rest)) = steps.split_first() else { return 0 };
    let before = taken.last().expect("the first is taken").at;
    let mut deepest = 0;
    for it in events {
        let is_new = !taken.iter().any(|taken| std::ptr::eq(*taken, *it));
        if it.event_type == *step && before <= it.at && it.at <= last && is_new {
            taken.push(it);
            deepest = deepest.max(1 + further(events, taken, rest, last));
            taken.pop();
        }
        if deepest == steps.len() {
            break;
        }
    }
    deepest
}

/// A member of each object of a list.
pub fn members<'a>(list: &'a Value, name: &str) -> Vec<&'a Value> {
    list.as_array().into_iter().flatten().map(|it| &it[name]).collect()
}
