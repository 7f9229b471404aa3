//! Spans of time as people write them: `24h`, `90d`, `1h 30m`.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};

/// Longer ones are typing errors.
const DAYS_MAX: u64 = 3650;

/// A day has 24 hours.
pub fn parse(text: &str) -> Result<Duration, String> {
    let help = || format!("{text:?} is no span of time up to {DAYS_MAX}d; write 24h, 90d or 0s");
    let span: Span = text.parse().map_err(|_cause| help())?;
    let exact = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_cause| help())?;
    let duration = Duration::try_from(exact).map_err(|_negative| help())?;
    if duration > Duration::from_secs(DAYS_MAX * 86_400) {
        return Err(help());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        for (text, seconds) in [("24h", 86_400), ("7d", 604_800), ("1h 30m", 5_400), ("0s", 0)] {
            assert_eq!(parse(text).unwrap().as_secs(), seconds, "{text}");
        }
        for text in ["", "soon", "24", "-1h", "1month", "20y", "99999d"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
