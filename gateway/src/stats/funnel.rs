//! How many users do one thing after another within a time.

use std::collections::HashMap;
use std::ops::Range;

use common::stats::{Facts, SLOT_US, Slot};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::StatsError;
use super::calendar::{Period, RANGE, Unit};
use super::params::{Filter, Params, unusable};
use super::plan::touched;
use super::scope::{By, Scope};
use super::snapshot::Snapshot;
use crate::auth::parse_duration;

const STEPS_MAX: usize = 20;
const WITHIN_MAX: SignedDuration = SignedDuration::from_hours(24 * 366);

/// Events in memory at once, 16 bytes each.
const EVENTS_MAX: usize = 20_000_000;

#[derive(Debug)]
pub struct Funnel {
    pub period: Period,
    steps: Vec<String>,
    within: SignedDuration,
    filter: Filter,
}

#[derive(Debug, Serialize)]
pub struct Steps {
    steps: Vec<Step>,
}

#[derive(Debug, Serialize)]
struct Step {
    r#type: String,
    users: u64,
}

/// An event of one of the steps' types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Deed {
    user: u32,
    at_us: i64,
    event_type: u8,
}

impl Funnel {
    pub fn read(query: &str, now: Timestamp) -> Result<Self, StatsError> {
        let filters = &["userId", "objectType", "objectId", "source"];
        let params = Params::read(query, &[&RANGE, &["steps", "within"], filters])?;
        let steps = params.text("steps").unwrap_or_default();
        let steps: Vec<String> =
            steps.split(',').map(str::trim).filter(|it| !it.is_empty()).map(Into::into).collect();
        if !(1..=STEPS_MAX).contains(&steps.len()) {
            return Err(unusable(format!(
                "`steps` names 1 to {STEPS_MAX} types of events in their order, such as view,like,purchase"
            )));
        }
        let within = params.text("within").unwrap_or("1d");
        let within = parse_duration(within)
            .map_err(|error| unusable(format!("`within` is {within:?}: {error}")))?;
        let within = SignedDuration::try_from(within).unwrap_or(SignedDuration::MAX);
        if within > WITHIN_MAX {
            return Err(unusable("`within` can be a year at most"));
        }
        let period = Period::read(&params, Unit::Day, now)?;
        Ok(Self { period, steps, within, filter: Filter::read(&params)? })
    }

    /// Where the last event that may count lies.
    pub fn last(&self) -> Timestamp {
        self.period.to.timestamp().saturating_add(self.within).unwrap_or(Timestamp::MAX)
    }

    pub async fn answer(&self, snapshot: &Snapshot<'_>) -> Result<Steps, StatsError> {
        let scope = Scope::resolve(snapshot, &self.filter, Some(By::Type)).await?;
        // Each type once, however often it is a step.
        let mut types: Vec<&String> = Vec::new();
        let mut steps = Vec::new();
        for step in &self.steps {
            let place = types.iter().position(|it| *it == step).unwrap_or_else(|| {
                types.push(step);
                types.len() - 1
            });
            steps.push(place as u8);
        }
        let place: HashMap<usize, u8> = scope
            .groups
            .iter()
            .enumerate()
            .filter_map(|(group, name)| {
                Some((group, types.iter().position(|it| *it == name)? as u8))
            })
            .collect();
        let starts = self.period.from_us()..self.period.to_us();
        let deeds = self.deeds(snapshot, &scope, &place).await?;
        let reached = reached(deeds, &steps, &starts, self.within.as_micros() as i64);
        let step = |(name, users): (&String, u64)| Step { r#type: name.clone(), users };
        Ok(Steps { steps: self.steps.iter().zip(reached).map(step).collect() })
    }

    async fn deeds(
        &self,
        snapshot: &Snapshot<'_>,
        scope: &Scope,
        place: &HashMap<usize, u8>,
    ) -> Result<Vec<Deed>, StatsError> {
        let event_type = |kind| Some(*place.get(&scope.group(kind)?)?);
        let kinds: Vec<i32> =
            scope.kinds().into_iter().filter(|kind| event_type(*kind).is_some()).collect();
        let counted = self.period.from_us()..=self.last().as_microsecond();
        let slots = touched(*counted.start(), counted.end() + 1);
        let mut deeds = Vec::new();
        let add = |slot: Slot, kind, body: &[u8]| {
            let Some(event_type) = event_type(kind) else { return Ok(()) };
            Facts::each(body, |fact| {
                let at_us = i64::from(slot) * SLOT_US + i64::from(fact.us);
                if scope.counts(&fact) && counted.contains(&at_us) && deeds.len() <= EVENTS_MAX {
                    deeds.push(Deed { user: fact.user, at_us, event_type });
                }
            })
        };
        snapshot.facts(&[slots], &kinds, add).await?;
        if deeds.len() > EVENTS_MAX {
            return Err(unusable(format!(
                "the steps happened more than {EVENTS_MAX} times in the range; narrow it"
            )));
        }
        Ok(deeds)
    }
}

/// How many users got to each step. A first step counts when it lies in `starts`, each further one
/// from the one before it on and at most `within_us` after that first.
fn reached(mut deeds: Vec<Deed>, steps: &[u8], starts: &Range<i64>, within_us: i64) -> Vec<u64> {
    deeds.sort_unstable();
    let types = steps.iter().max().map_or(0, |it| usize::from(*it) + 1);
    let mut times = vec![Vec::new(); types];
    let mut reached = vec![0; steps.len()];
    for of_user in deeds.chunk_by(|a, b| a.user == b.user) {
        times.iter_mut().for_each(Vec::clear);
        of_user.iter().for_each(|it| times[usize::from(it.event_type)].push(it.at_us));
        let mut deepest = 0;
        for (first, at_us) in times[usize::from(steps[0])].iter().enumerate() {
            if starts.contains(at_us) && deepest < steps.len() {
                deepest = deepest.max(depth(&times, first, steps, within_us));
            }
        }
        reached.iter_mut().take(deepest).for_each(|users| *users += 1);
    }
    reached
}

/// How many steps somebody takes who begins with the `first` of its kind, by the times of each type:
/// each next one is the earliest that can be, since an earlier one leaves more to come after it. No
/// deed is two steps.
fn depth(times: &[Vec<i64>], first: usize, steps: &[u8], within_us: i64) -> usize {
    let mut at_us = times[usize::from(steps[0])][first];
    let last_us = at_us + within_us;
    let mut unused = [0; STEPS_MAX];
    unused[usize::from(steps[0])] = first + 1;
    for (taken, step) in (1..).zip(&steps[1..]) {
        let step = usize::from(*step);
        let next = unused[step].max(times[step].partition_point(|it| *it < at_us));
        match times[step].get(next) {
            Some(next_us) if *next_us <= last_us => at_us = *next_us,
            _ => return taken,
        }
        unused[step] = next + 1;
    }
    steps.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deeds(of: &[(u32, i64, u8)]) -> Vec<Deed> {
        of.iter().map(|&(user, at_us, event_type)| Deed { user, at_us, event_type }).collect()
    }

    #[test]
    fn steps_count_in_order_and_equal_times_do_too() {
        let of = deeds(&[(1, 5, 0), (1, 5, 1), (2, 4, 1), (2, 5, 0), (3, 9, 0), (3, 12, 1)]);
        assert_eq!(reached(of.clone(), &[0, 1], &(0..10), 100), [3, 2]);
        assert_eq!(reached(of.clone(), &[0, 1], &(0..10), 2), [3, 1]);
        assert_eq!(reached(of, &[0, 1], &(6..10), 3), [1, 1], "the end of the time counts");
    }

    #[test]
    fn a_later_beginning_may_lead_further() {
        let of = deeds(&[(1, 0, 0), (1, 50, 0), (1, 60, 1), (1, 61, 2)]);
        assert_eq!(reached(of, &[0, 1, 2], &(0..100), 20), [1, 1, 1]);
    }

    #[test]
    fn one_deed_is_not_two_steps() {
        let of = deeds(&[(1, 0, 0), (2, 0, 0), (2, 0, 0), (2, 1, 1)]);
        assert_eq!(reached(of, &[0, 0, 1], &(0..100), 20), [2, 1, 1]);
    }

    #[test]
    fn a_step_before_the_range_does_not_begin_but_one_behind_it_may_follow() {
        let of = deeds(&[(1, 0, 0), (1, 11, 1), (2, 5, 0), (2, 11, 1)]);
        assert_eq!(reached(of, &[0, 1], &(1..10), 20), [1, 1]);
    }
}
