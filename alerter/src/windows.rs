//! Tumbling windows by event time: which of them are over, and how much happened in each.

use std::collections::VecDeque;

/// Windows an object remembers, counted back from its newest.
pub const KEPT: usize = 64;

/// How many windows the actions of one object may be out of order, in a replay of history, before
/// a window is judged without those that come later. A live window waits for the clock instead.
pub const DISORDER: usize = 16;

/// How time is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    pub window_ms: i64,
    /// How long after its end a window still waits for its actions.
    pub lateness_ms: i64,
    /// How long a partition must be without records before it follows the wall clock.
    pub quiet_ms: i64,
}

impl Timing {
    /// The number of the window that holds a moment.
    pub fn window_of(&self, at_ms: i64) -> i64 {
        at_ms.div_euclid(self.window_ms)
    }

    /// When a window starts, in milliseconds since 1970.
    pub fn start_ms(&self, window: i64) -> i64 {
        window * self.window_ms
    }
}

/// The present, by two clocks: the one that is set, and the one that never jumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since 1970: what event times are compared with.
    pub wall_ms: i64,
    /// Milliseconds since some start: what waiting is measured with.
    pub steady_ms: i64,
}

/// How far event time has come in one partition; it never goes back.
#[derive(Debug, Clone)]
pub struct Clock {
    timing: Timing,
    watermark_ms: i64,
    heard_at_ms: i64,
}

impl Clock {
    pub fn new(timing: Timing, now: Now) -> Self {
        Self { timing, watermark_ms: i64::MIN, heard_at_ms: now.steady_ms }
    }

    /// Takes note of an action; returns its time, which a wrong clock cannot put into the future.
    pub fn hear(&mut self, occurred_at_ms: i64, now: Now) -> i64 {
        let at_ms = occurred_at_ms.min(now.wall_ms);
        self.heard_at_ms = now.steady_ms;
        self.advance_to(at_ms);
        at_ms
    }

    /// True when nothing was heard for long enough to trust the wall clock instead.
    pub fn is_quiet(&self, now: Now) -> bool {
        now.steady_ms - self.heard_at_ms >= self.timing.quiet_ms
    }

    /// Follows the wall clock; only for a partition that is quiet and read to its end.
    pub fn follow_wall(&mut self, now: Now) {
        self.advance_to(now.wall_ms);
    }

    /// Everything before this moment is over.
    pub fn watermark_ms(&self) -> i64 {
        self.watermark_ms
    }

    /// Windows before this one are over.
    pub fn first_open(&self) -> i64 {
        self.timing.window_of(self.watermark_ms)
    }

    fn advance_to(&mut self, at_ms: i64) {
        self.watermark_ms = self.watermark_ms.max(at_ms - self.timing.lateness_ms);
    }
}

/// The recent past of one object: how much happened in each window, the newest last.
///
/// Anchored at the object's own newest window, not at the clock: so a replay of old history is
/// counted and compared like the day it happened. Memory: 32 bytes and 4 more for each window
/// between the first and the last that counted, at most [`KEPT`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Windows {
    newest: i64,
    counts: VecDeque<u32>,
}

impl Windows {
    /// Restores what [`Windows::newest`] and [`Windows::counts`] told.
    pub fn of(newest: i64, counts: Vec<u32>) -> Self {
        let mut counts = VecDeque::from(counts);
        while counts.len() > KEPT {
            counts.pop_front();
        }
        Self { newest, counts }
    }

    pub fn newest(&self) -> i64 {
        self.newest
    }

    /// The counts up to the newest window.
    pub fn counts(&self) -> impl ExactSizeIterator<Item = u32> {
        self.counts.iter().copied()
    }

    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Counts one action; returns the new count, or none when the window is long forgotten.
    pub fn add(&mut self, window: i64) -> Option<u32> {
        if self.counts.is_empty() {
            self.newest = window;
            self.counts.push_back(0);
        }
        self.advance_to(window);
        let back = usize::try_from(self.newest - window).ok()?;
        if back >= KEPT {
            return None;
        }
        while self.counts.len() <= back {
            self.counts.push_front(0);
        }
        let place = self.counts.len() - 1 - back;
        self.counts[place] = self.counts[place].saturating_add(1);
        Some(self.counts[place])
    }

    pub fn count(&self, window: i64) -> u32 {
        let back = usize::try_from(self.newest - window).ok();
        let place = back.and_then(|back| self.counts.len().checked_sub(back + 1));
        place.map_or(0, |place| self.counts[place])
    }

    /// The counts of at most `length` windows before `window`, oldest first; missing ones are
    /// zero, those before `born` or forgotten are left out.
    pub fn before(&self, window: i64, born: i64, length: usize) -> Vec<u32> {
        let forgotten = self.newest.saturating_sub(KEPT as i64 - 1);
        let start = (window - length as i64).max(born).max(forgotten);
        (start..window).map(|it| self.count(it)).collect()
    }

    fn advance_to(&mut self, window: i64) {
        if window - self.newest >= KEPT as i64 {
            self.counts.clear();
            self.newest = window;
            self.counts.push_back(0);
        }
        while self.newest < window {
            self.newest += 1;
            self.counts.push_back(0);
            if self.counts.len() > KEPT {
                self.counts.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing { window_ms: 60_000, lateness_ms: 10_000, quiet_ms: 5_000 };
    const NOW_MS: i64 = 1_795_000_000_000;
    const NOW: Now = after(0);

    const fn after(ms: i64) -> Now {
        Now { wall_ms: NOW_MS + ms, steady_ms: 1_000 + ms }
    }

    #[test]
    fn a_window_is_over_when_the_newest_action_is_the_lateness_past_its_end() {
        let mut clock = Clock::new(TIMING, NOW);
        clock.hear(69_999, NOW);
        assert_eq!(clock.first_open(), 0);
        clock.hear(70_000, NOW);
        assert_eq!(clock.first_open(), 1);
    }

    #[test]
    fn old_actions_do_not_turn_the_clock_back() {
        let mut clock = Clock::new(TIMING, NOW);
        clock.follow_wall(NOW);
        let before = clock.first_open();
        clock.hear(60_000, after(1));
        assert_eq!(clock.first_open(), before);
    }

    #[test]
    fn a_clock_that_is_wrong_does_not_close_windows_of_the_future() {
        let mut clock = Clock::new(TIMING, NOW);
        assert_eq!(clock.hear(NOW_MS + 3_600_000, NOW), NOW_MS);
        assert!(clock.first_open() <= TIMING.window_of(NOW_MS));
    }

    #[test]
    fn only_silence_makes_a_partition_quiet() {
        let mut clock = Clock::new(TIMING, NOW);
        assert!(!clock.is_quiet(after(4_999)));
        assert!(clock.is_quiet(after(5_000)));
        clock.hear(60_000, after(5_000));
        assert!(!clock.is_quiet(after(9_999)));
    }

    #[test]
    fn a_wall_clock_that_jumps_makes_nothing_quiet() {
        let clock = Clock::new(TIMING, NOW);
        assert!(!clock.is_quiet(Now { wall_ms: NOW_MS + 3_600_000, ..NOW }));
    }

    #[test]
    fn actions_out_of_order_land_in_their_windows() {
        let mut windows = Windows::default();
        for window in [100, 98, 100, 99, 100, 63 + 37] {
            windows.add(window);
        }
        assert_eq!(windows.before(101, 97, 30), [0, 1, 1, 4]);
        assert_eq!(windows.newest(), 100);
    }

    #[test]
    fn what_is_older_than_the_kept_windows_is_not_counted() {
        let mut windows = Windows::default();
        windows.add(1_000);
        assert_eq!(windows.add(1_000 - KEPT as i64), None);
        assert_eq!(windows.add(1_001 - KEPT as i64), Some(1));
        windows.add(5_000);
        assert_eq!(windows.counts().collect::<Vec<_>>(), [1]);
        assert_eq!(windows.count(1_000), 0);
    }

    #[test]
    fn the_past_begins_where_the_object_was_born_or_memory_ends() {
        let mut windows = Windows::default();
        windows.add(10);
        windows.add(50);
        assert_eq!(windows.before(50, 48, 30).len(), 2);
        assert_eq!(windows.before(50, 0, 30).len(), 30);
        windows.add(10 + KEPT as i64 + 5);
        assert_eq!(windows.before(30, 0, 30).len(), 14);
    }

    #[test]
    fn what_was_told_can_be_restored() {
        let mut windows = Windows::default();
        for window in [3, 5, 5, 9] {
            windows.add(window);
        }
        let counts = windows.counts().collect();
        assert_eq!(Windows::of(windows.newest(), counts), windows);
    }
}
