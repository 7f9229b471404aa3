//! Who comes back: users by the day, week or month of their first event ever, and how many of them were
//! active so many units later.

use std::collections::BTreeMap;

use common::stats::{ALL_KINDS, Cell, Facet, Facts, Firsts, SLOT_US, Slot};
use jiff::Timestamp;
use roaring::RoaringBitmap;
use serde::Serialize;

use super::StatsError;
use super::calendar::{Buckets, Period, RANGE, Unit};
use super::params::{Filter, Named, Params, unusable};
use super::scope::Scope;
use super::snapshot::Snapshot;
use super::tally::{Tallies, touched_by};

/// Rows and columns of the matrix at most.
const COHORTS_MAX: usize = 120;

#[derive(Debug)]
pub struct Retention {
    pub period: Period,
    unit: Unit,
    mode: Mode,
    periods: usize,
}

/// When somebody counts as retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Active in the n-th unit.
    Exactly,
    /// Active in the n-th unit or a later one.
    Unbounded,
}

impl Named for Mode {
    const ALL: &'static [(&'static str, Self)] =
        &[("nday", Self::Exactly), ("unbounded", Self::Unbounded)];
}

#[derive(Debug, Serialize)]
pub struct Matrix {
    cohorts: Vec<Cohort>,
}

#[derive(Debug, Serialize, PartialEq)]
struct Cohort {
    day: String,
    size: u64,
    retained: Vec<u64>,
}

impl Retention {
    pub fn read(query: &str, now: Timestamp) -> Result<Self, StatsError> {
        let params = Params::read(query, &[&RANGE, &["unit", "mode", "periods"]])?;
        let unit = params.one_of("unit", Unit::Day)?;
        if matches!(unit, Unit::Minute | Unit::Hour) {
            return Err(unusable("`unit` can be `day`, `week` or `month`"));
        }
        // A cohort is of a whole day: half of one would not be those who came on it.
        let period = Period::read(&params, unit, now)?.widened(unit)?;
        let cohorts = Buckets::of(&period, unit)?.len();
        if cohorts > COHORTS_MAX {
            return Err(unusable(format!(
                "the range has {cohorts} cohorts, at most {COHORTS_MAX} are answered; narrow it, or ask \
                 for a larger `unit`"
            )));
        }
        let mode = params.one_of("mode", Mode::Exactly)?;
        let periods = params.count("periods", COHORTS_MAX, COHORTS_MAX)?;
        Ok(Self { period, unit, mode, periods })
    }

    pub async fn answer(&self, snapshot: &Snapshot<'_>) -> Result<Matrix, StatsError> {
        let buckets = Buckets::of(&self.period, self.unit)?;
        let scope = Scope::resolve(snapshot, &Filter::default(), None).await?;
        let mut tallies = Tallies::read(snapshot, &scope, &buckets).await?;
        let active = (0..buckets.len())
            .map(|at| tallies.0.remove(&(at, 0)).unwrap_or_default().users)
            .collect();
        let cohorts = cohorts(snapshot, &buckets).await?;
        let retained = retained(&cohorts, active, self.mode, self.periods);
        let rows = buckets.iter().zip(&cohorts).zip(retained);
        let cohort =
            |((bucket, cohort), retained): ((&super::calendar::Bucket, &RoaringBitmap), _)| {
                Cohort { day: bucket.start.date().to_string(), size: cohort.len(), retained }
            };
        Ok(Matrix { cohorts: rows.map(cohort).collect() })
    }
}

/// The users whose first event ever lies in each unit.
async fn cohorts(
    snapshot: &Snapshot<'_>,
    buckets: &Buckets,
) -> Result<Vec<RoaringBitmap>, StatsError> {
    let mut firsts: BTreeMap<i32, Firsts> = BTreeMap::new();
    let add = |block, _, body: &[u8]| {
        firsts.insert(block, Firsts::unpack(body)?);
        Ok(())
    };
    let every_block = 0..i32::MAX;
    let ranges = std::slice::from_ref(&every_block);
    snapshot.cells(Facet::FirstSlots, ranges, &[ALL_KINDS], add).await?;
    // Also what happened before the range: it takes users out of their cohorts.
    let slots = Slot::MIN..touched_by(buckets).end;
    let add = |slot, _, body: &[u8]| {
        Facts::each(body, |fact| {
            firsts.entry(Firsts::block(fact.user)).or_default().note(fact.user, slot);
        })
    };
    snapshot.deltas(slots, add).await?;
    let mut cohorts = vec![Vec::new(); buckets.len()];
    for (block, firsts) in &firsts {
        for (user, slot) in firsts.iter(*block) {
            if let Some(at) = buckets.place(i64::from(slot) * SLOT_US) {
                cohorts[at].push(user);
            }
        }
    }
    Ok(cohorts.into_iter().map(|users| users.into_iter().collect()).collect())
}

/// For each cohort, how many of it were active in its own unit, the next, and so on.
fn retained(
    cohorts: &[RoaringBitmap],
    mut active: Vec<RoaringBitmap>,
    mode: Mode,
    periods: usize,
) -> Vec<Vec<u64>> {
    if mode == Mode::Unbounded {
        for at in (1..active.len()).rev() {
            let (earlier, later) = active.split_at_mut(at);
            earlier[at - 1] |= &later[0];
        }
    }
    let row = |(at, cohort): (usize, &RoaringBitmap)| {
        active[at..].iter().take(periods).map(|it| it.intersection_len(cohort)).collect()
    };
    cohorts.iter().enumerate().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bitmaps<const N: usize>(users: [&[u32]; N]) -> Vec<RoaringBitmap> {
        users.iter().map(|it| it.iter().collect()).collect()
    }

    #[test]
    fn whoever_comes_back_later_is_retained_without_bound_meanwhile() {
        let cohorts = bitmaps([&[1, 2, 3], &[4], &[]]);
        let active = || bitmaps([&[1, 2, 3], &[1, 4], &[1, 2]]);
        let exactly = retained(&cohorts, active(), Mode::Exactly, 9);
        assert_eq!(exactly, [vec![3, 1, 2], vec![1, 0], vec![0]]);
        let unbounded = retained(&cohorts, active(), Mode::Unbounded, 2);
        assert_eq!(unbounded, [vec![3, 2], vec![1, 0], vec![0]]);
    }
}
