//! What a range of judged offsets adds up to: computed once, for counters and rollups alike.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use deadpool_postgres::Transaction;
use hashbrown::{HashMap, HashSet};
use jiff::civil::{Date, date};
use jiff::{Span, Timestamp};
use tokio::sync::Semaphore;

use super::read_back::{self, Stored};
use super::{Memory, Offer, Share};
use crate::batch::{Deed, Judged};

/// The sums of a range, and the users of its days.
#[derive(Debug)]
pub struct Sums {
    pub generation: i64,
    /// Consecutive; there is at least one.
    pub steps: Vec<Step>,
    /// By days since 1970.
    users: BTreeMap<i32, HashSet<Box<str>>>,
    events: usize,
}

/// The sums of a sub-range of offsets.
#[derive(Debug)]
pub struct Step {
    pub range: Range<i64>,
    pub counts: HashMap<Counted, i64>,
}

/// What is counted: an action on an object. Ordered by object type, object id, action.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Counted(Box<str>);

impl Counted {
    /// Between the names. What is stored has none in it: Postgres takes no such text.
    const END: char = '\0';

    fn write(deed: &Deed<'_>, out: &mut String) -> bool {
        let Some((object_type, object_id)) = deed.object else { return false };
        out.clear();
        for name in [object_type, object_id, deed.event_type] {
            out.push_str(name);
            out.push(Self::END);
        }
        true
    }

    /// Object type, object id and type of the action.
    pub fn names(&self) -> [&str; 3] {
        let mut names = self.0.split_terminator(Self::END);
        std::array::from_fn(|_| names.next().unwrap_or_default())
    }
}

impl std::borrow::Borrow<str> for Counted {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Sums {
    /// Distinct counters of one step, each a call of a script: an unchunked one of 5,000 blocked
    /// Redis for 87 ms (measured).
    const STEP_COUNTERS_MAX: usize = 256;

    pub fn of(judged: &Judged) -> Self {
        let mut sums = Self::over(judged.from..judged.to, judged.generation);
        let mut scratch = String::new();
        judged.stored.iter().for_each(|row| sums.add(&row.deed(), &mut scratch));
        sums
    }

    fn over(range: Range<i64>, generation: i64) -> Self {
        let first = Step { range, counts: HashMap::new() };
        Self { generation, steps: vec![first], users: BTreeMap::new(), events: 0 }
    }

    /// Adds an event; `scratch` saves what is counted already from being allocated again.
    fn add(&mut self, deed: &Deed<'_>, scratch: &mut String) {
        self.events += 1;
        let users = self.users.entry(day_number(deed.occurred_at)).or_default();
        if !users.contains(deed.user_id) {
            users.insert(deed.user_id.into());
        }
        if !Counted::write(deed, scratch) {
            return;
        }
        if let Some(count) = self.last().counts.get_mut(scratch.as_str()) {
            *count += 1;
            return;
        }
        if self.last().counts.len() == Self::STEP_COUNTERS_MAX {
            let end = std::mem::replace(&mut self.last().range.end, deed.offset);
            self.steps.push(Step { range: deed.offset..end, counts: HashMap::new() });
        }
        self.last().counts.insert(Counted(scratch.as_str().into()), 1);
    }

    fn last(&mut self) -> &mut Step {
        self.steps.last_mut().expect("there is always a step")
    }

    /// Days with their users, each a name.
    pub fn users(&self) -> impl Iterator<Item = (Date, &str)> {
        self.users.iter().flat_map(|(day, users)| {
            let day = utc_day(*day);
            users.iter().map(move |user| (day, &**user))
        })
    }
}

impl Share for Arc<Sums> {
    const READ_BACK_STEP: i64 = 50_000;

    fn of(offer: &Offer) -> Self {
        offer.sums.clone()
    }

    async fn read(on: &Transaction<'_>, of: &Stored) -> Result<Self, tokio_postgres::Error> {
        let mut sums = Sums::over(of.range.clone(), of.generation);
        let mut scratch = String::new();
        read_back::deeds(on, of, |deed| sums.add(deed, &mut scratch)).await?;
        Ok(Arc::new(sums))
    }

    fn range(&self) -> Range<i64> {
        let first = self.steps.first().map_or(0, |it| it.range.start);
        first..self.steps.last().map_or(first, |it| it.range.end)
    }

    fn events(&self) -> usize {
        self.events
    }

    fn size(&self) -> usize {
        let counts = self.steps.iter().flat_map(|it| it.counts.keys()).map(|it| 48 + it.0.len());
        let users = self.users.values().flatten().map(|it| 40 + it.len());
        // Two followers hold it, each charged with half.
        (counts.sum::<usize>() + users.sum::<usize>()) / 2
    }

    fn room(memory: &Memory) -> &Arc<Semaphore> {
        &memory.sums
    }
}

fn day_number(at: Timestamp) -> i32 {
    i32::try_from(at.as_second().div_euclid(86_400)).expect("a timestamp's day fits")
}

fn utc_day(day_number: i32) -> Date {
    date(1970, 1, 1).saturating_add(Span::new().days(day_number))
}

#[cfg(test)]
impl Sums {
    /// Users who did something on the first day of 1970.
    pub fn of_users(generation: i64, users: &[&str]) -> Self {
        let mut sums = Self::over(0..1, generation);
        let occurred_at = Timestamp::UNIX_EPOCH;
        for user_id in users {
            let deed = Deed {
                offset: 0,
                event_type: "view",
                event_source: "test",
                user_id,
                object: None,
                occurred_at,
            };
            sums.add(&deed, &mut String::new());
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deed(offset: i64, id: &str) -> Deed<'_> {
        let occurred_at = Timestamp::from_second(86_400 * 3 - 1).unwrap();
        Deed {
            offset,
            event_type: "like",
            event_source: "test",
            user_id: "ann",
            object: Some(("post", id)),
            occurred_at,
        }
    }

    fn sums(range: Range<i64>, ids: impl IntoIterator<Item = (i64, String)>) -> Arc<Sums> {
        let mut sums = Sums::over(range, 1);
        let mut scratch = String::new();
        ids.into_iter().for_each(|(offset, id)| sums.add(&deed(offset, &id), &mut scratch));
        Arc::new(sums)
    }

    #[test]
    fn equal_actions_are_one_sum() {
        let sums = sums(10..20, [(11, "a"), (12, "b"), (13, "a")].map(|(at, it)| (at, it.into())));
        assert_eq!(sums.steps.len(), 1);
        let mut counts: Vec<_> =
            sums.steps[0].counts.iter().map(|(it, count)| (it.names(), *count)).collect();
        counts.sort();
        assert_eq!(counts, [(["post", "a", "like"], 2), (["post", "b", "like"], 1)]);
        assert_eq!(sums.users().collect::<Vec<_>>(), [(date(1970, 1, 3), "ann")]);
    }

    #[test]
    fn steps_cover_the_range_without_a_gap_and_none_is_too_large() {
        let sums = sums(0..10_000, (0..1_000).map(|it| (it * 10 + 3, format!("p{}", it % 700))));
        assert_eq!(sums.range(), 0..10_000);
        for pair in sums.steps.windows(2) {
            assert_eq!(pair[0].range.end, pair[1].range.start);
        }
        assert!(sums.steps.iter().all(|it| it.counts.len() <= 256 && !it.range.is_empty()));
        let total: i64 = sums.steps.iter().flat_map(|it| it.counts.values()).sum();
        assert_eq!(total, 1_000);
    }

    #[test]
    fn names_may_be_empty_and_of_any_letters() {
        let mut scratch = String::new();
        let deed = Deed { object: Some(("", "ü:1")), event_type: "", ..deed(1, "") };
        assert!(Counted::write(&deed, &mut scratch));
        assert_eq!(Counted(scratch.into()).names(), ["", "ü:1", ""]);
    }
}
