//! Counts by minute, from what each slot has counted; users by minute only where there are few events.

use common::stats::{Cell, Counts, Facet, Facts, SLOT_US, Slot};

use super::StatsError;
use super::calendar::Buckets;
use super::plan::Plan;
use super::scope::Scope;
use super::snapshot::Snapshot;
use super::tally::{Tallies, touched_by};

const MINUTE_US: i64 = 60_000_000;

/// Up to so many events each is looked at, which also tells the users.
const EVENTS_MAX: u64 = 1_000_000;

/// Also says whether the users are known.
pub async fn read(
    snapshot: &Snapshot<'_>,
    scope: &Scope,
    buckets: &Buckets,
) -> Result<(Tallies, bool), StatsError> {
    let counts = counts(snapshot, scope, buckets).await?;
    if counts.0.values().map(|it| it.count).sum::<u64>() > EVENTS_MAX {
        return Ok((counts, false));
    }
    Ok((Tallies::by_facts(snapshot, scope, buckets).await?, true))
}

async fn counts(
    snapshot: &Snapshot<'_>,
    scope: &Scope,
    buckets: &Buckets,
) -> Result<Tallies, StatsError> {
    let mut tallies = Tallies::default();
    let mut add = |bucket: Option<usize>, kind: i32, count: u64| {
        if let (Some(bucket), Some(group), 1..) = (bucket, scope.group(kind), count) {
            tallies.0.entry((bucket, group)).or_default().count += count;
        }
    };
    let slots = touched_by(buckets);
    let ranges = std::slice::from_ref(&slots);
    let add_slot = |slot, kind, body: &[u8]| {
        for (minute, count) in (0..).zip(Counts::unpack(body)?.0) {
            let begins_us = i64::from(slot) * SLOT_US + minute * MINUTE_US;
            add(whole(buckets, begins_us), kind, count);
        }
        Ok(())
    };
    snapshot.cells(Facet::SlotMinutes, ranges, &scope.summed_kinds(), add_slot).await?;
    // The ends of the range may cut a minute.
    let add_cut = |slot: Slot, kind, body: &[u8]| {
        Facts::each(body, |fact| {
            let begins_us = i64::from(slot) * SLOT_US;
            let into_us = i64::from(fact.us);
            let is_counted = whole(buckets, begins_us + into_us - into_us % MINUTE_US).is_some();
            if !is_counted {
                add(buckets.place(begins_us + into_us), kind, 1);
            }
        })
    };
    snapshot.cells(Facet::SlotFacts, &Plan::across(buckets).cut, &scope.kinds(), add_cut).await?;
    let add_new = |slot: Slot, kind, body: &[u8]| {
        Facts::each(body, |fact| {
            add(buckets.place(i64::from(slot) * SLOT_US + i64::from(fact.us)), kind, 1);
        })
    };
    snapshot.deltas(slots, add_new).await?;
    Ok(tallies)
}

/// The unit in which a whole minute lies.
fn whole(buckets: &Buckets, begins_us: i64) -> Option<usize> {
    let first = buckets.place(begins_us)?;
    (buckets.place(begins_us + MINUTE_US - 1) == Some(first)).then_some(first)
}
