//! What a client's clock is off by, told by when it says it sent: its times are moved onto our clock.

use jiff::{SignedDuration, Timestamp};

use super::members::{Member, Value};
use super::{Arrival, InvalidEvent, time};

/// When a request says it was sent, and how far that may lie from when it came before it counts.
/// Senders repeat a request under its first `sent_at`: a small difference is waiting, not a wrong clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skew {
    sent_at: Option<Timestamp>,
    tolerance: SignedDuration,
}

impl Skew {
    pub const TOLERANCE: SignedDuration = SignedDuration::from_secs(60);

    /// `sent_at` is the JSON the client sent; what is no time says nothing.
    pub fn told_by(sent_at: Option<&str>, tolerance: SignedDuration) -> Self {
        let sent_at = sent_at.and_then(|json| time::parse(Value::of(json)));
        Self { sent_at, tolerance }
    }

    /// `self`, or what an item says of itself when its request says nothing.
    pub(super) fn or_told_by(self, sent_at: Option<&Member<'_>>) -> Self {
        Self { sent_at: self.sent_at.or_else(|| time::parse(sent_at?.value)), ..self }
    }

    /// Of a client whose clock nobody doubts.
    pub(super) fn ignored(self) -> Self {
        Self { sent_at: None, ..self }
    }

    /// When it was sent minus when it happened is true on any clock; never later than its arrival.
    fn corrected(self, at: Timestamp, received_at: Timestamp) -> Option<Timestamp> {
        let sent_at = self.sent_at?;
        if received_at.duration_since(sent_at).abs() <= self.tolerance {
            return None;
        }
        let age = sent_at.duration_since(at).max(SignedDuration::ZERO);
        received_at.checked_sub(age).ok()
    }
}

/// When an event happened, as its form tells it.
pub(super) struct Occurred<'m, 'a> {
    pub at: Option<Timestamp>,
    /// What was sent, where the clock was corrected.
    pub original: Option<&'a str>,
    /// The member it is told by.
    pub told_by: Option<&'m Member<'a>>,
}

impl<'m, 'a> Occurred<'m, 'a> {
    pub fn read(
        told_by: Option<&'m Member<'a>>,
        skew: Skew,
        arrival: &Arrival<'_>,
    ) -> Result<Self, InvalidEvent> {
        let Some(member) = told_by else {
            return Ok(Self { at: None, original: None, told_by: None });
        };
        let pointer = || member.pointer("");
        let sent = time::parse(member.value)
            .ok_or_else(|| InvalidEvent::InvalidTime { pointer: pointer() })?;
        let corrected = skew.corrected(sent, arrival.received_at);
        let at = time::checked(corrected.unwrap_or(sent), arrival.now, pointer)?;
        let original = corrected.map(|_| member.value.text());
        Ok(Self { at: Some(at), original, told_by })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: &str = "\"2026-11-21T12:00:00Z\"";

    fn corrected(sent_at: &str, at: &str, received_at: &str) -> Option<String> {
        let skew = Skew::told_by(Some(sent_at), Skew::TOLERANCE);
        let at = skew.corrected(at.parse().unwrap(), received_at.parse().unwrap());
        at.map(|at| at.to_string())
    }

    #[test]
    fn a_clock_that_is_off_is_corrected_by_when_it_says_it_sent() {
        let at = corrected(SENT, "2026-11-21T11:59:50Z", "2026-11-21T10:00:00Z");
        assert_eq!(at.as_deref(), Some("2026-11-21T09:59:50Z"));
    }

    #[test]
    fn within_the_tolerance_nothing_is_moved() {
        assert_eq!(corrected(SENT, "2026-11-21T11:59:50Z", "2026-11-21T12:01:00Z"), None);
        assert!(corrected(SENT, "2026-11-21T11:59:50Z", "2026-11-21T12:01:01Z").is_some());
        assert_eq!(corrected("\"soon\"", "2026-11-21T11:59:50Z", "2026-11-21T10:00:00Z"), None);
    }

    #[test]
    fn nothing_is_moved_beyond_its_arrival() {
        let at = corrected(SENT, "2026-11-21T12:30:00Z", "2026-11-21T10:00:00Z");
        assert_eq!(at.as_deref(), Some("2026-11-21T10:00:00Z"));
    }
}
