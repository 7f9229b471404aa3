//! The rules: when a count is worth telling. Pure.

use anyhow::ensure;

use crate::detector::{Anomaly, Detector, Sample};
use crate::windows::{Timing, Windows};

/// What the alerter looks for.
pub struct Rules {
    pub timing: Timing,
    pub milestones: Milestones,
    pub spike: SpikeRule,
}

/// The counts that are told when an object reaches them, of any type of action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Milestones(Vec<u64>);

impl Milestones {
    pub fn new(counts: &[u64]) -> anyhow::Result<Self> {
        ensure!(!counts.contains(&0), "a milestone of 0 is reached by nothing");
        let mut counts = counts.to_vec();
        counts.sort_unstable();
        counts.dedup();
        Ok(Self(counts))
    }

    /// The milestone that a count reaches. Counts go up one by one and are kept for ever, so each
    /// is met once, in whatever order the actions happened.
    pub fn reached(&self, count: u64) -> Option<u64> {
        self.0.binary_search(&count).is_ok().then_some(count)
    }
}

/// A sharp rise of likes of one object against its own recent past.
pub struct SpikeRule {
    pub detector: Box<dyn Detector>,
    /// Fewer likes in a window are never a spike.
    pub count_min: u32,
    /// Windows of the past a window is compared with.
    pub baseline: usize,
    /// Windows an object must have lived before it is judged.
    pub history_min: usize,
    /// Windows of silence around a spike.
    pub cooldown: i64,
}

impl SpikeRule {
    /// The type of action it watches.
    pub const EVENT_TYPE: &'static str = "like";

    /// Judges one window of an object whose first action fell into the window `born`.
    pub fn judge(&self, windows: &Windows, born: i64, window: i64) -> Option<Anomaly> {
        let observed = windows.count(window);
        let lived = usize::try_from(window - born).unwrap_or(0);
        if observed < self.count_min || lived < self.history_min {
            return None;
        }
        let history = windows.before(window, born, self.baseline);
        if history.len() < lived.min(self.baseline) {
            // Part of its past is forgotten: it was judged when it was not.
            return None;
        }
        self.detector.judge(&Sample { observed, history: &history })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::farrington::Farrington;
    use crate::windows::KEPT;

    fn rule() -> SpikeRule {
        SpikeRule {
            detector: Box::new(Farrington { p_value_max: 1e-6, ratio_min: 3.0 }),
            count_min: 20,
            baseline: 30,
            history_min: 10,
            cooldown: 30,
        }
    }

    fn windows(counts: &[(i64, u32)]) -> Windows {
        let mut windows = Windows::default();
        for (window, count) in counts {
            for _ in 0..*count {
                windows.add(*window);
            }
        }
        windows
    }

    #[test]
    fn each_milestone_is_reached_by_its_own_count_only() {
        let milestones = Milestones::new(&[100, 10, 10]).unwrap();
        let reached: Vec<_> = (1..=1_000).filter_map(|it| milestones.reached(it)).collect();
        assert_eq!(reached, [10, 100]);
        assert!(Milestones::new(&[0]).is_err());
    }

    #[test]
    fn a_new_post_is_not_judged_before_it_has_a_past() {
        let windows = windows(&[(1_000, 60)]);
        assert!(rule().judge(&windows, 1_000, 1_000).is_none());
        assert!(rule().judge(&windows, 991, 1_000).is_none());
        assert!(rule().judge(&windows, 990, 1_000).is_some());
    }

    #[test]
    fn few_likes_are_no_spike_however_quiet_it_was() {
        assert!(rule().judge(&windows(&[(1_000, 19)]), 0, 1_000).is_none());
        assert!(rule().judge(&windows(&[(1_000, 20)]), 0, 1_000).is_some());
    }

    #[test]
    fn a_window_whose_past_is_half_forgotten_is_not_judged_again() {
        let end = 1_000 + KEPT as i64 - 1;
        let windows = windows(&[(1_000 + 29, 60), (1_000 + 30, 60), (end, 1)]);
        assert!(rule().judge(&windows, 0, 1_000 + 29).is_none());
        assert!(rule().judge(&windows, 0, 1_000 + 30).is_some());
    }
}
