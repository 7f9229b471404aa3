//! One alert per rise: how long an object stays silent around a window that fired.

/// The windows of one object that fired, as far as they still matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cooldown {
    fired: Vec<i64>,
}

impl Cooldown {
    /// More than fire within the windows that an object remembers, whatever the silence is.
    const REMEMBERED: usize = 64;

    pub fn of(fired: Vec<i64>) -> Self {
        Self { fired }
    }

    pub fn fired(&self) -> &[i64] {
        &self.fired
    }

    /// Whether a window may fire. The silence reaches to both sides, since a window that late
    /// actions corrected may lie before the one that fired: it belongs to the same rise.
    pub fn allows(&self, window: i64, silence: i64) -> bool {
        self.fired.iter().all(|fired| (window - fired).abs() > silence)
    }

    pub fn fire(&mut self, window: i64) {
        if self.fired.len() == Self::REMEMBERED {
            self.fired.remove(0);
        }
        self.fired.push(window);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rise_is_told_once_to_both_sides() {
        let mut cooldown = Cooldown::default();
        assert!(cooldown.allows(100, 30));
        cooldown.fire(100);
        for window in [70, 99, 100, 101, 130] {
            assert!(!cooldown.allows(window, 30), "{window}");
        }
        assert!(cooldown.allows(69, 30) && cooldown.allows(131, 30));
    }

    #[test]
    fn without_silence_each_window_still_fires_once() {
        let mut cooldown = Cooldown::default();
        cooldown.fire(5);
        assert!(!cooldown.allows(5, 0));
        assert!(cooldown.allows(6, 0));
    }
}
