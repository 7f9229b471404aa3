//! Which windows have their last word: stretches of time that memory no longer holds. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Stretches of time whose windows of one size are final.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Start → end, both in milliseconds since 1970; none touches the next.
    stretches: BTreeMap<i64, i64>,
}

impl Sealed {
    /// So many are told apart; beyond, the two that are closest become one with what lies between.
    const STRETCHES_MAX: usize = 1_000;

    pub fn holds(&self, at_ms: i64) -> bool {
        self.stretches.range(..=at_ms).next_back().is_some_and(|(_, end)| at_ms < *end)
    }

    /// Makes the window from `start` to `end` final.
    pub fn seal(&mut self, start: i64, end: i64) {
        let (mut start, mut end) = (start, end);
        let before = self.stretches.range(..=start).next_back().map(|(from, to)| (*from, *to));
        if let Some((from, to)) = before.filter(|(_, to)| *to >= start) {
            start = from;
            end = end.max(to);
        }
        let covered: Vec<_> = self.stretches.range(start..=end).map(|(from, _)| *from).collect();
        for from in covered {
            end = end.max(self.stretches.remove(&from).unwrap_or(end));
        }
        self.stretches.insert(start, end);
        if self.stretches.len() > Self::STRETCHES_MAX {
            self.join_closest();
        }
    }

    fn join_closest(&mut self) {
        let pairs = self.stretches.iter().zip(self.stretches.iter().skip(1));
        let closest = pairs
            .map(|((from, to), (next, end))| (next - to, *from, *next, *end))
            .min_by_key(|(gap, ..)| *gap);
        if let Some((_, from, next, end)) = closest {
            self.stretches.remove(&next);
            self.stretches.insert(from, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretches(sealed: &Sealed) -> Vec<(i64, i64)> {
        sealed.stretches.iter().map(|(from, to)| (*from, *to)).collect()
    }

    #[test]
    fn neighbours_become_one_in_any_order() {
        for order in [[0, 1, 2], [2, 1, 0], [0, 2, 1], [1, 0, 2]] {
            let mut sealed = Sealed::default();
            order.iter().for_each(|it| sealed.seal(it * 60, it * 60 + 60));
            assert_eq!(stretches(&sealed), [(0, 180)], "{order:?}");
        }
    }

    #[test]
    fn the_start_is_inside_and_the_end_is_not() {
        let mut sealed = Sealed::default();
        sealed.seal(60, 120);
        sealed.seal(240, 300);
        let held: Vec<_> = [0, 59, 60, 119, 120, 239, 240, 299, 300]
            .into_iter()
            .filter(|at| sealed.holds(*at))
            .collect();
        assert_eq!(held, [60, 119, 240, 299]);
    }

    #[test]
    fn their_number_is_bounded_by_closing_the_smallest_gap() {
        let mut sealed = Sealed::default();
        for it in 0..Sealed::STRETCHES_MAX as i64 + 1 {
            let shift = if it > 500 { -30 } else { 0 };
            sealed.seal(it * 120 + shift, it * 120 + 60 + shift);
        }
        assert_eq!(sealed.stretches.len(), Sealed::STRETCHES_MAX);
        assert!(sealed.holds(500 * 120 + 70), "the gap of 30");
        assert!(!sealed.holds(100 * 120 + 70), "a gap of 60");
    }
}
