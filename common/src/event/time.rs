//! Times as the world writes them, in; milliseconds since 1970, out.

use std::io::Write as _;

use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

use super::InvalidEvent;
use super::members::{Member, Value};

const AHEAD_MAX: SignedDuration = SignedDuration::from_hours(24);

/// The member's time in whole milliseconds.
pub fn read(member: &Member<'_>, now: Timestamp) -> Result<Timestamp, InvalidEvent> {
    match parse(member.value) {
        Some(at) => checked(at, now, || member.pointer("")),
        None => Err(InvalidEvent::InvalidTime { pointer: member.pointer("") }),
    }
}

/// The time in whole milliseconds, if an event may have happened then.
pub fn checked(
    at: Timestamp,
    now: Timestamp,
    pointer: impl FnOnce() -> String,
) -> Result<Timestamp, InvalidEvent> {
    if at < Timestamp::UNIX_EPOCH || at.duration_since(now) > AHEAD_MAX {
        return Err(InvalidEvent::TimeOutOfRange { pointer: pointer() });
    }
    Ok(from_ms(at.as_millisecond()))
}

/// Appends RFC 3339 in UTC with milliseconds and `Z`.
pub fn write(at: Timestamp, out: &mut Vec<u8>) {
    write!(out, "{at:.3}").expect("a Vec takes every byte");
}

/// Any time that can be written, whether or not an event may have happened then.
pub fn parse(value: Value<'_>) -> Option<Timestamp> {
    let text = value.scalar()?;
    let text = text.trim();
    match value.text().as_bytes().first()? {
        b'"' if is_decimal(text) => epoch(text),
        b'"' => calendar(text),
        b'-' | b'0'..=b'9' => epoch(text),
        _ => None,
    }
}

/// RFC 3339 and its relatives; without an offset it is UTC, without a time midnight.
fn calendar(text: &str) -> Option<Timestamp> {
    let pieces = DateTimeParser::new().parse_pieces(text).ok()?;
    let offset = pieces.to_numeric_offset();
    if offset.is_none() && pieces.time_zone_annotation().is_some() {
        return None; // A named zone needs a database to be read.
    }
    let date_time = pieces.date().to_datetime(pieces.time().unwrap_or_default());
    offset.unwrap_or(Offset::UTC).to_timestamp(date_time).ok()
}

fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_digits(whole) && is_digits(fraction)
}

/// Seconds, milliseconds, microseconds or nanoseconds since 1970: the magnitude tells.
fn epoch(number: &str) -> Option<Timestamp> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let Ok(whole) = whole.parse::<i64>() else {
        return Some(from_ms(ms(number.parse().ok()?)));
    };
    if number.starts_with('-') || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(from_ms(ms(number.parse().ok()?)));
    }
    Some(from_ms(match whole {
        0..SECONDS_END => whole * 1_000 + thousandths(fraction),
        SECONDS_END..MILLISECONDS_END => whole,
        MILLISECONDS_END..MICROSECONDS_END => whole / 1_000,
        _ => whole / 1_000_000,
    }))
}

const SECONDS_END: i64 = 100_000_000_000;
const MILLISECONDS_END: i64 = SECONDS_END * 1_000;
const MICROSECONDS_END: i64 = MILLISECONDS_END * 1_000;

/// As above, for what is negative or written with an exponent.
fn ms(number: f64) -> i64 {
    let ms = match number.abs() {
        size if size < SECONDS_END as f64 => number * 1e3,
        size if size < MILLISECONDS_END as f64 => number,
        size if size < MICROSECONDS_END as f64 => number / 1e3,
        _ => number / 1e6,
    };
    ms.floor() as i64
}

/// The first three digits after the point.
fn thousandths(fraction: &str) -> i64 {
    let digits = fraction.bytes().map(|digit| i64::from(digit - b'0'));
    digits.chain([0, 0, 0]).take(3).fold(0, |ms, digit| ms * 10 + digit)
}

fn from_ms(ms: i64) -> Timestamp {
    let beyond = if ms < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_millisecond(ms).unwrap_or(beyond)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{event, now, refusal};
    use super::*;

    fn sent(time: &str) -> String {
        format!(r#"{{"type":"like","userId":"u","timestamp":{time}}}"#)
    }

    fn read(time: &str) -> String {
        let mut out = Vec::new();
        write(event(sent(time)).occurred_at, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_way_to_write_a_calendar_time_is_read() {
        for (time, expected) in [
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000Z"),
            ("2026-01-02t03:04:05.678z", "2026-01-02T03:04:05.678Z"),
            ("2026-01-02T03:04:05.678000+00:00", "2026-01-02T03:04:05.678Z"),
            ("2026-01-02T03:04:05.6789999+02:00", "2026-01-02T01:04:05.678Z"),
            ("2026-01-02 03:04:05-0530", "2026-01-02T08:34:05.000Z"),
            ("2026-01-02 03:04:05", "2026-01-02T03:04:05.000Z"),
            ("2026-01-02 03:04:05.678", "2026-01-02T03:04:05.678Z"),
            ("2026-01-02 03:04:05,678", "2026-01-02T03:04:05.678Z"),
            ("2026-01-02T03:04:05", "2026-01-02T03:04:05.000Z"),
            ("2026-01-02T03:04", "2026-01-02T03:04:00.000Z"),
            (" 2026-01-02 ", "2026-01-02T00:00:00.000Z"),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.000Z"),
            ("2026-01-02T03:04:05+01:00[Europe/Berlin]", "2026-01-02T02:04:05.000Z"),
        ] {
            assert_eq!(read(&format!("\"{time}\"")), expected, "{time}");
        }
    }

    #[test]
    fn the_magnitude_tells_the_unit_of_a_number_or_numeric_string() {
        for (number, expected) in [
            ("0", "1970-01-01T00:00:00.000Z"),
            ("1767323045", "2026-01-02T03:04:05.000Z"),
            ("1767323045.6789", "2026-01-02T03:04:05.678Z"),
            ("1767323045.7", "2026-01-02T03:04:05.700Z"),
            ("1767323045678", "2026-01-02T03:04:05.678Z"),
            ("1767323045678.9", "2026-01-02T03:04:05.678Z"),
            ("1767323045678901", "2026-01-02T03:04:05.678Z"),
            ("1767323045678901234", "2026-01-02T03:04:05.678Z"),
        ] {
            assert_eq!(read(number), expected, "{number}");
            assert_eq!(read(&format!("\"{number}\"")), expected, "\"{number}\"");
        }
        assert_eq!(read("1.767323045e9"), "2026-01-02T03:04:05.000Z");
        assert_eq!(read("1.767323045678e12"), "2026-01-02T03:04:05.678Z");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for time in [
            "\"soon\"",
            "\"2026-13-01\"",
            "\"2026-02-30T00:00:00Z\"",
            "\" \"",
            "\"1.2.3\"",
            "\"1e9\"",
            "\"2026-01-02T03:04:05[Europe/Berlin]\"",
            "true",
            "{}",
            "[1]",
            "\"-\"",
            "\"T10:00\"",
        ] {
            assert_eq!(refusal(sent(time)), ("invalid_time", "/timestamp".into()), "{time}");
        }
    }

    #[test]
    fn before_1970_and_later_than_a_day_ahead_is_refused() {
        for time in [
            "-1",
            "-0.001",
            "\"-1\"",
            "\"1969-12-31T23:59:59.9999Z\"",
            "\"2026-11-22T10:00:00.124Z\"",
            "4102444800",
            "1e300",
            "99999999999999999999",
            "\"0001-01-01\"",
        ] {
            assert_eq!(refusal(sent(time)), ("time_out_of_range", "/timestamp".into()), "{time}");
        }
        assert_eq!(read("\"2026-11-22T10:00:00.123Z\""), "2026-11-22T10:00:00.123Z");
        assert_eq!(read("-0"), "1970-01-01T00:00:00.000Z");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn a_time_that_was_written_is_read_as_the_same(ms in 0..now().as_millisecond()) {
            let mut out = Vec::new();
            write(from_ms(ms), &mut out);
            let text = format!("\"{}\"", String::from_utf8(out).unwrap());
            prop_assert_eq!(event(sent(&text)).occurred_at.as_millisecond(), ms);
        }
    }
}
