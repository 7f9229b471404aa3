//! When to say again in the log that something still waits.

use std::time::{Duration, Instant};

/// Due at first, and then every half minute: what is tried twice a second for hours must not fill a disk.
#[derive(Debug, Default)]
pub struct Reminder {
    given: Option<Instant>,
}

impl Reminder {
    const EVERY: Duration = Duration::from_secs(30);

    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = self.given.is_none_or(|given| now.duration_since(given) >= Self::EVERY);
        if due {
            self.given = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reminder_is_given_at_first_and_every_half_minute() {
        let begun = Instant::now();
        let mut reminder = Reminder::default();
        let given: Vec<u64> = (0..100)
            .filter(|half| reminder.is_due(begun + Duration::from_millis(half * 500)))
            .collect();
        assert_eq!(given, [0, 60]);
    }
}
