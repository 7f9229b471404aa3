//! The objects to which most was done: in a period, or in all up to now.

use common::stats::{Facet, Facts, Objects};
use jiff::Timestamp;
use serde::Serialize;

use super::StatsError;
use super::calendar::{Buckets, Period, RANGE, Unit};
use super::params::{FILTERS, Filter, Params, unusable};
use super::plan::Plan;
use super::scope::Scope;
use super::snapshot::{Counted, Snapshot};
use super::tally::touched_by;
use super::{LIMIT_DEFAULT, LIMIT_MAX};

/// Objects with equal counts are told in the order of their names; of more than so many some are.
const CANDIDATES_MAX: usize = 20_000;

#[derive(Debug)]
pub struct TopObjects {
    pub period: Period,
    /// No range was given.
    pub is_now: bool,
    pub limit: usize,
    pub filter: Filter,
}

#[derive(Debug, Serialize)]
pub struct Top {
    items: Vec<Item>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    object_type: String,
    object_id: String,
    count: u64,
}

impl Top {
    pub fn of(counted: Vec<Counted>) -> Self {
        let item =
            |Counted { object_type, object_id, count }| Item { object_type, object_id, count };
        Self { items: counted.into_iter().map(item).collect() }
    }
}

impl TopObjects {
    pub fn read(query: &str, now: Timestamp) -> Result<Self, StatsError> {
        let params = Params::read(query, &[&RANGE, &["limit"], &FILTERS])?;
        let filter = Filter::read(&params)?;
        if filter.object_id.is_some() {
            return Err(unusable(
                "one object is no list; `/api/objects/{type}/{id}/counters` has its counts",
            ));
        }
        let is_now = params.text("from").is_none() && params.text("to").is_none();
        let period = match is_now {
            true => Period::all(now),
            false => Period::read(&params, Unit::Day, now)?,
        };
        let limit = params.count("limit", LIMIT_DEFAULT, LIMIT_MAX)?;
        Ok(Self { period, is_now, limit, filter })
    }

    pub async fn answer(&self, snapshot: &Snapshot<'_>) -> Result<Top, StatsError> {
        let buckets = Buckets::one(&self.period);
        let scope = Scope::resolve(snapshot, &self.filter, None).await?;
        let kinds = scope.kinds();
        let mut ranking = Ranking::default();
        let all = touched_by(&buckets);
        let mut add_facts = |slot, kind, body: &[u8]| {
            if scope.group(kind).is_none() {
                return Ok(());
            }
            Facts::each(body, |fact| {
                let at_us = i64::from(slot) * common::stats::SLOT_US + i64::from(fact.us);
                if fact.object > 0 && scope.counts(&fact) && buckets.place(at_us).is_some() {
                    ranking.add(fact.object, 1);
                }
            })
        };
        if scope.needs_facts() {
            snapshot.facts(&[all], &kinds, add_facts).await?;
        } else {
            let Plan { days, slots, cut } = Plan::of(&buckets);
            for ranges in [slots, cut] {
                snapshot.cells(Facet::SlotFacts, &ranges, &kinds, &mut add_facts).await?;
            }
            snapshot.deltas(all, add_facts).await?;
            let add =
                |_, _, body: &[u8]| Objects::each(body, |object, count| ranking.add(object, count));
            snapshot.cells(Facet::DayObjects, &days, &kinds, add).await?;
        }
        let (numbers, counts) = ranking.top(self.limit);
        Ok(Top::of(snapshot.top(&numbers, &counts, self.limit).await?))
    }
}

/// Counts by the objects' numbers, which are dense.
#[derive(Debug, Default)]
struct Ranking(Vec<u64>);

impl Ranking {
    fn add(&mut self, object: u32, count: u64) {
        let place = object as usize;
        if place >= self.0.len() {
            self.0.resize((place + 1).next_power_of_two(), 0);
        }
        self.0[place] += count;
    }

    /// The first so many, and those that are equal to the last of them.
    fn top(&self, limit: usize) -> (Vec<i32>, Vec<i64>) {
        let mut counts: Vec<u64> = self.0.iter().copied().filter(|it| *it > 0).collect();
        let last = counts.len().min(limit);
        if last == 0 {
            return Default::default();
        }
        let (_, least, _) = counts.select_nth_unstable_by(last - 1, |a, b| b.cmp(a));
        let least = *least;
        let mut first: Vec<(u64, usize)> = (0..)
            .zip(&self.0)
            .filter(|(_, count)| **count >= least)
            .map(|(object, count)| (*count, object))
            .collect();
        first.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        first.truncate(CANDIDATES_MAX.max(limit));
        first.into_iter().map(|(count, object)| (object as i32, count as i64)).unzip()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_counts_at_the_end_are_all_candidates() {
        let mut ranking = Ranking::default();
        for (object, count) in [(3, 5), (9, 2), (1, 1), (4, 2), (3, 1), (70_000, 2)] {
            ranking.add(object, count);
        }
        assert_eq!(ranking.top(1), (vec![3], vec![6]));
        assert_eq!(ranking.top(2), (vec![3, 4, 9, 70_000], vec![6, 2, 2, 2]));
        assert_eq!(ranking.top(9).0, [3, 4, 9, 70_000, 1]);
        assert_eq!(Ranking::default().top(3), (vec![], vec![]));
    }
}
