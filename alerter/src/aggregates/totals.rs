//! Step two: adds partials up to windows, says when these are over, and what corrects them. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use crate::aggregates::partials::{NotAPartial, Partial};
use crate::aggregates::sealed::Sealed;
use crate::aggregates::total::{Aggregate, Span, Total};
use crate::aggregates::users::Users;
use crate::state::UnreadableState;
use crate::windows::{Clock, Now, Timing};

/// A window that is over is told when nothing has changed it for so long …
const SETTLE_MS: i64 = 1_000;
/// … but after this at the latest.
const SETTLE_MS_MAX: i64 = 4_000;

/// One transaction tells and forgets so many windows; the rest waits for the next.
const TOLD_MAX: usize = 10_000;

/// Under which the state holds what is sealed. No window has this key: theirs are arrays.
const SEALED_KEY: &str = "sealed";

/// Which windows there are, and how much of them is remembered.
#[derive(Debug, Clone)]
pub struct Plan {
    pub sizes_ms: Arc<[i64]>,
    pub timing: Timing,
    /// Memory of one partition. Above it the windows that changed longest ago are sealed.
    pub bytes_max: usize,
    /// A window that has not changed for so long is sealed.
    pub keep_ms: i64,
}

impl Plan {
    /// The longest stretch of time that no window cuts in two.
    pub fn slot_ms(&self) -> i64 {
        fn common(a: i64, b: i64) -> i64 {
            if b == 0 { a } else { common(b, a % b) }
        }
        self.sizes_ms.iter().copied().fold(0, common).max(1)
    }
}

/// The windows of the dimensions that one partition of partials owns.
///
/// A window stays here after it was told, so that what comes late corrects it, until it is *sealed*:
/// then its last word is said, its state forgotten, and what still comes is only counted.
pub struct Totals {
    plan: Plan,
    clock: Clock,
    groups: BTreeMap<Span, Group>,
    /// Windows in the order in which they changed last.
    touched: BTreeMap<u64, Span>,
    touches: u64,
    /// Windows with something to tell.
    untold: BTreeSet<Span>,
    /// By size of the window.
    sealed: BTreeMap<i64, Sealed>,
    is_seal_changed: bool,
    /// Windows that were sealed and whose state is still to be forgotten.
    leaving: VecDeque<(Span, Group)>,
    changed: Vec<(Span, Arc<str>)>,
    news: Vec<(String, Aggregate)>,
    bytes: usize,
    keys: usize,
    noticed: Noticed,
}

/// All the dimensions of one window.
#[derive(Debug, Default)]
struct Group {
    totals: HashMap<Arc<str>, Total>,
    untold: Vec<Arc<str>>,
    bytes: usize,
    touch: u64,
    touched_wall_ms: i64,
    touched_steady_ms: i64,
    /// Since when it waits to be calm.
    over_since_ms: Option<i64>,
}

/// What was noticed since it was asked for last, for the metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Noticed {
    pub told: u64,
    pub corrections: u64,
    pub sealed: u64,
    /// Those of them that had to make room.
    pub squeezed: u64,
    /// Actions that came for a sealed window.
    pub too_late: u64,
}

/// What a transaction has to write.
#[derive(Debug, Default)]
pub struct Changes {
    /// Key and value for others.
    pub news: Vec<(String, Aggregate)>,
    pub states: Vec<(Arc<str>, Option<Vec<u8>>)>,
}

impl Totals {
    pub fn new(plan: Plan, now: Now) -> Self {
        Self {
            clock: Clock::new(plan.timing, now),
            plan,
            groups: BTreeMap::new(),
            touched: BTreeMap::new(),
            touches: 0,
            untold: BTreeSet::new(),
            sealed: BTreeMap::new(),
            is_seal_changed: false,
            leaving: VecDeque::new(),
            changed: Vec::new(),
            news: Vec::new(),
            bytes: 0,
            keys: 0,
            noticed: Noticed::default(),
        }
    }

    /// Takes in what an earlier run wrote at a time; a later record of a key replaces it.
    pub fn restore(
        &mut self,
        key: &str,
        value: Option<&[u8]>,
        written_ms: i64,
    ) -> Result<(), UnreadableState> {
        if key == SEALED_KEY {
            let damaged = |source| UnreadableState::Damaged { key: key.to_owned(), source };
            self.sealed = serde_json::from_slice(value.unwrap_or(b"{}")).map_err(damaged)?;
            return Ok(());
        }
        let Some((span, dimensions)) = Span::of_state_key(key) else {
            return Err(UnreadableState::Unknown { key: key.to_owned() });
        };
        match value {
            Some(value) => {
                let total = Total::decode(key, value)?;
                self.put(span, dimensions.into(), total, written_ms);
            }
            None => self.remove(span, &dimensions),
        }
        Ok(())
    }

    /// After the last record is restored: what is still to be told, and what to be forgotten.
    pub fn resume(&mut self, now: Now) {
        let sizes = self.plan.sizes_ms.clone();
        let is_left = |span: &Span, sealed: &BTreeMap<i64, Sealed>| {
            let size = span.size_ms();
            !sizes.contains(&size) || sealed.get(&size).is_some_and(|it| it.holds(span.start_ms))
        };
        let left: Vec<_> =
            self.groups.keys().filter(|span| is_left(span, &self.sealed)).copied().collect();
        for span in left {
            self.leave(span);
        }
        for (span, group) in &mut self.groups {
            group.touched_steady_ms = now.steady_ms;
            let untold = group.totals.iter().filter(|(_, total)| !total.is_told());
            group.untold = untold.map(|(key, _)| key.clone()).collect();
            if !group.untold.is_empty() {
                self.untold.insert(*span);
            }
        }
    }

    /// How many windows are remembered, each of its dimensions counted.
    pub fn size(&self) -> usize {
        self.keys
    }

    /// Takes in one record.
    pub fn observe(&mut self, key: &[u8], value: &[u8], now: Now) -> Result<(), NotAPartial> {
        let (dimensions, partial) = Partial::decode(key, value)?;
        let dimensions: Arc<str> = dimensions.into();
        self.clock.hear(partial.newest, now);
        for slot in &partial.slots {
            for size_ms in &*self.plan.sizes_ms.clone() {
                let span = Span::around(slot.at, *size_ms);
                if self.sealed.get(size_ms).is_some_and(|it| it.holds(span.start_ms)) {
                    self.noticed.too_late += slot.count;
                } else {
                    self.add(span, &dimensions, slot.count, &slot.users, now);
                }
            }
        }
        Ok(())
    }

    pub fn clock(&mut self) -> &mut Clock {
        &mut self.clock
    }

    /// Tells what is over, seals what has been quiet for long or does not fit.
    pub fn close(&mut self, now: Now) {
        let mut due = Vec::new();
        for span in &self.untold {
            if span.end_ms > self.clock.watermark_ms() {
                break;
            }
            let group = self.groups.get_mut(span).expect("what is untold is remembered");
            let since_ms = *group.over_since_ms.get_or_insert(now.steady_ms);
            let calm_at_ms = (group.touched_steady_ms + SETTLE_MS).min(since_ms + SETTLE_MS_MAX);
            if calm_at_ms <= now.steady_ms {
                due.push(*span);
            }
        }
        for span in due {
            self.tell(span);
        }
        while let Some((_, span)) = self.touched.first_key_value() {
            let span = *span;
            let is_old = self.groups[&span].touched_wall_ms < now.wall_ms - self.plan.keep_ms;
            if !is_old && self.bytes <= self.plan.bytes_max {
                break;
            }
            let sealed = self.seal(span);
            self.noticed.sealed += sealed;
            self.noticed.squeezed += if is_old { 0 } else { sealed };
        }
    }

    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty()
            || !self.news.is_empty()
            || !self.leaving.is_empty()
            || self.is_seal_changed
    }

    /// What is to be written now. When that fails, the whole of this is to be thrown away.
    pub fn take_changes(&mut self) -> Changes {
        let mut changes = Changes { news: std::mem::take(&mut self.news), states: Vec::new() };
        for (span, key) in self.changed.drain(..) {
            let group = self.groups.get_mut(&span);
            if let Some(total) = group.and_then(|it| it.totals.get_mut(&key)) {
                total.is_changed = false;
                changes.states.push((span.state_key(&key).into(), Some(total.encode())));
            }
        }
        self.forget_left(&mut changes);
        if std::mem::take(&mut self.is_seal_changed) {
            let sealed = serde_json::to_vec(&self.sealed).expect("numbers become JSON");
            changes.states.push((SEALED_KEY.into(), Some(sealed)));
        }
        changes
    }

    pub fn take_noticed(&mut self) -> Noticed {
        std::mem::take(&mut self.noticed)
    }

    fn add(&mut self, span: Span, dimensions: &Arc<str>, count: u64, users: &Users, now: Now) {
        let group = self.groups.entry(span).or_default();
        self.touched.remove(&group.touch);
        self.touches += 1;
        self.touched.insert(self.touches, span);
        group.touch = self.touches;
        group.touched_wall_ms = now.wall_ms;
        group.touched_steady_ms = now.steady_ms;

        let is_new = !group.totals.contains_key(dimensions);
        let total = group.totals.entry(dimensions.clone()).or_insert_with(Total::none);
        let bytes_before = if is_new { 0 } else { total.bytes(dimensions.len()) };
        if is_new || total.is_told() {
            group.untold.push(dimensions.clone());
            self.untold.insert(span);
        }
        total.count += count;
        total.users.merge(users);
        // A sketch may take less than the users it replaces.
        let bytes = total.bytes(dimensions.len());
        group.bytes = group.bytes + bytes - bytes_before;
        self.bytes = self.bytes + bytes - bytes_before;
        self.keys += usize::from(is_new);
        mark_changed(&mut self.changed, span, dimensions, total);
    }

    fn tell(&mut self, span: Span) {
        let group = self.groups.get_mut(&span).expect("what is told is remembered");
        let room = TOLD_MAX.saturating_sub(self.news.len()).min(group.untold.len());
        for key in group.untold.drain(..room) {
            let total = group.totals.get_mut(&key).expect("what is untold is remembered");
            self.news.push(news(&span, &key, total, &mut self.noticed));
            mark_changed(&mut self.changed, span, &key, total);
        }
        if group.untold.is_empty() {
            group.over_since_ms = None;
            self.untold.remove(&span);
        }
    }

    /// Says how many dimensions the window had.
    fn seal(&mut self, span: Span) -> u64 {
        let sealed = self.sealed.entry(span.size_ms()).or_default();
        sealed.seal(span.start_ms, span.end_ms);
        self.is_seal_changed = true;
        self.leave(span)
    }

    /// Lets go of a window; says how many dimensions it had.
    fn leave(&mut self, span: Span) -> u64 {
        let Some(group) = self.groups.remove(&span) else { return 0 };
        let keys = group.totals.len();
        self.touched.remove(&group.touch);
        self.untold.remove(&span);
        self.bytes -= group.bytes;
        self.keys -= keys;
        self.leaving.push_back((span, group));
        keys as u64
    }

    /// Says the last word of what is sealed and takes it out of the state. A window of a size that
    /// is no longer asked for has none: it is not complete.
    fn forget_left(&mut self, changes: &mut Changes) {
        // As much as could be sealed anew: else what is sealed to save memory would stay in it under load.
        let most = 2 * changes.states.len() + TOLD_MAX;
        while let Some((span, group)) = self.leaving.front_mut() {
            let is_wanted = self.plan.sizes_ms.contains(&span.size_ms());
            while let Some(key) = group.totals.keys().next().cloned() {
                if changes.states.len() >= most {
                    return;
                }
                let mut total = group.totals.remove(&key).expect("the key was just there");
                if is_wanted && !total.is_told() {
                    changes.news.push(news(span, &key, &mut total, &mut self.noticed));
                }
                changes.states.push((span.state_key(&key).into(), None));
            }
            self.leaving.pop_front();
        }
    }

    fn put(&mut self, span: Span, dimensions: Arc<str>, total: Total, written_ms: i64) {
        self.remove(span, &dimensions);
        let group = self.groups.entry(span).or_default();
        self.touched.remove(&group.touch);
        self.touches += 1;
        self.touched.insert(self.touches, span);
        group.touch = self.touches;
        group.touched_wall_ms = written_ms;
        let bytes = total.bytes(dimensions.len());
        group.bytes += bytes;
        self.bytes += bytes;
        self.keys += 1;
        group.totals.insert(dimensions, total);
    }

    fn remove(&mut self, span: Span, dimensions: &str) {
        let Some(group) = self.groups.get_mut(&span) else { return };
        let Some(total) = group.totals.remove(dimensions) else { return };
        let bytes = total.bytes(dimensions.len());
        group.bytes -= bytes;
        self.bytes -= bytes;
        self.keys -= 1;
        if group.totals.is_empty() {
            self.touched.remove(&group.touch);
            self.groups.remove(&span);
        }
    }
}

fn news(span: &Span, key: &str, total: &mut Total, noticed: &mut Noticed) -> (String, Aggregate) {
    noticed.told += 1;
    noticed.corrections += u64::from(total.told.is_some());
    total.told = Some(total.count);
    let aggregate = Aggregate::of(span, key, total);
    (aggregate.key(key), aggregate)
}

fn mark_changed(
    changed: &mut Vec<(Span, Arc<str>)>,
    span: Span,
    key: &Arc<str>,
    total: &mut Total,
) {
    if !total.is_changed {
        total.is_changed = true;
        changed.push((span, key.clone()));
    }
}

#[cfg(test)]
#[path = "totals_tests.rs"]
mod tests;
