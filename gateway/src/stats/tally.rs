//! How often and by whom, for each unit of a period and each group: the sum behind most questions.

use std::collections::BTreeMap;

use common::stats::{
    BrokenCell, Cell, Counts, Facet, Facts, SLOT_US, Slot, Users, first_slot_of_day,
};
use roaring::{MultiOps, RoaringBitmap};

use super::StatsError;
use super::calendar::Buckets;
use super::plan::{Plan, touched};
use super::scope::Scope;
use super::snapshot::Snapshot;

#[derive(Debug, Default, PartialEq)]
pub struct Tally {
    pub count: u64,
    pub users: RoaringBitmap,
}

/// By place of the unit, then by group; those without an event are not in it.
#[derive(Debug, Default, PartialEq)]
pub struct Tallies(pub BTreeMap<(usize, usize), Tally>);

impl Tallies {
    pub async fn read(
        snapshot: &Snapshot<'_>,
        scope: &Scope,
        buckets: &Buckets,
    ) -> Result<Self, StatsError> {
        if scope.needs_facts() {
            return Self::by_facts(snapshot, scope, buckets).await;
        }
        let mut sums = Sums { scope, buckets, tallies: Self::default() };
        let plan = Plan::of(buckets);
        let kinds = scope.summed_kinds();
        let counted = [(Facet::DayCounts, &plan.days), (Facet::SlotMinutes, &plan.slots)];
        for (facet, ranges) in counted {
            let add = |at, kind, body: &[u8]| {
                let count = Counts::unpack(body)?.sum();
                if let Some(place) = sums.place(facet, at, kind) {
                    sums.tallies.0.entry(place).or_default().count += count;
                }
                Ok(())
            };
            snapshot.cells(facet, ranges, &kinds, add).await?;
        }
        // United at once: one after the other, each would copy what is there already.
        let mut parts: BTreeMap<(usize, usize), Vec<RoaringBitmap>> = BTreeMap::new();
        for (facet, ranges) in [(Facet::DayUsers, &plan.days), (Facet::SlotUsers, &plan.slots)] {
            let add = |at, kind, body: &[u8]| {
                let users = Users::unpack(body)?.0;
                if let Some(place) = sums.place(facet, at, kind) {
                    parts.entry(place).or_default().push(users);
                }
                Ok(())
            };
            snapshot.cells(facet, ranges, &kinds, add).await?;
        }
        for (place, parts) in parts {
            sums.tallies.0.entry(place).or_default().users = parts.union();
        }
        let add = |slot, kind, body: &[u8]| sums.add_facts(slot, kind, body);
        snapshot.cells(Facet::SlotFacts, &plan.cut, &scope.kinds(), add).await?;
        let add = |slot, kind, body: &[u8]| sums.add_facts(slot, kind, body);
        snapshot.deltas(touched_by(buckets), add).await?;
        Ok(sums.tallies)
    }

    /// The same from each single event.
    pub async fn by_facts(
        snapshot: &Snapshot<'_>,
        scope: &Scope,
        buckets: &Buckets,
    ) -> Result<Self, StatsError> {
        let mut sums = Sums { scope, buckets, tallies: Self::default() };
        let add = |slot, kind, body: &[u8]| sums.add_facts(slot, kind, body);
        snapshot.facts(&[touched_by(buckets)], &scope.kinds(), add).await?;
        Ok(sums.tallies)
    }

    pub fn get(&self, bucket: usize, group: usize) -> Option<&Tally> {
        self.0.get(&(bucket, group))
    }
}

/// Every slot that the units touch.
pub fn touched_by(buckets: &Buckets) -> std::ops::Range<Slot> {
    let first = buckets.iter().next().map_or(0, |it| it.from_us);
    touched(first, buckets.iter().last().map_or(first, |it| it.to_us))
}

struct Sums<'a> {
    scope: &'a Scope,
    buckets: &'a Buckets,
    tallies: Tallies,
}

impl Sums<'_> {
    /// Unit and group of what a day or slot holds as a whole.
    fn place(&self, facet: Facet, at: i32, kind: i32) -> Option<(usize, usize)> {
        let is_day = matches!(facet, Facet::DayCounts | Facet::DayUsers);
        let slot = if is_day { first_slot_of_day(at) } else { at };
        Some((self.buckets.place(i64::from(slot) * SLOT_US)?, self.scope.group(kind)?))
    }

    fn add_facts(&mut self, slot: Slot, kind: i32, body: &[u8]) -> Result<(), BrokenCell> {
        let Some(group) = self.scope.group(kind) else { return Ok(()) };
        let begins_us = i64::from(slot) * SLOT_US;
        let (first, last) =
            (self.buckets.place(begins_us), self.buckets.place(begins_us + SLOT_US - 1));
        let whole = first.filter(|_| first == last);
        let (mut bucket, mut users) = (whole, Vec::new());
        let mut count = 0;
        let scope = self.scope;
        Facts::each(body, |fact| {
            if !scope.counts(&fact) {
                return;
            }
            if whole.is_none() {
                bucket = self.buckets.place(begins_us + i64::from(fact.us));
                if let Some(bucket) = bucket {
                    let tally = self.tallies.0.entry((bucket, group)).or_default();
                    tally.count += 1;
                    tally.users.insert(fact.user);
                }
                return;
            }
            count += 1;
            if users.last() != Some(&fact.user) {
                users.push(fact.user);
            }
        })?;
        if let (Some(bucket), 1..) = (whole, count) {
            let tally = self.tallies.0.entry((bucket, group)).or_default();
            tally.count += count;
            tally.users.extend(users);
        }
        Ok(())
    }
}
