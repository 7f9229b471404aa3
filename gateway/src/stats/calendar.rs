//! Ranges of time as people ask for them, and their minutes, hours, days, weeks and months in any zone.

use common::stats::SLOT_US;
use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};
use jiff::{Span, Timestamp, ToSpan, Zoned};

use super::StatsError;
use super::params::{Named, Params, unusable};

pub const RANGE: [&str; 3] = ["from", "to", "tz"];

const MINUTE_US: i64 = 60_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Minute,
    Hour,
    Day,
    Week,
    Month,
}

impl Unit {
    /// How many are answered when no range is given: the last ones, up to now.
    fn default_count(self) -> i32 {
        match self {
            Self::Minute => 60,
            Self::Hour => 48,
            Self::Day => 30,
            Self::Week | Self::Month => 12,
        }
    }

    /// How many are answered at most.
    fn count_max(self) -> usize {
        match self {
            Self::Minute => 1_440,
            Self::Hour => 24 * 92,
            Self::Day | Self::Week | Self::Month => 1_100,
        }
    }

    fn span(self, count: i32) -> Span {
        match self {
            Self::Minute => count.minutes(),
            Self::Hour => count.hours(),
            Self::Day => count.days(),
            Self::Week => count.weeks(),
            Self::Month => count.months(),
        }
    }

    /// The beginning of the unit in which an instant lies.
    fn floor(self, at: &Zoned) -> Result<Zoned, jiff::Error> {
        let day = at.date();
        match self {
            Self::Minute | Self::Hour => {
                let minutes = if self == Self::Hour { i64::from(at.minute()) } else { 0 };
                let into_us =
                    MINUTE_US * minutes + at.timestamp().as_microsecond().rem_euclid(MINUTE_US);
                let from = at.timestamp().as_microsecond() - into_us;
                let start = Timestamp::from_microsecond(from)?.to_zoned(at.time_zone().clone());
                // Where clocks moved by half an hour since then, another has begun.
                let next = self.after(&start)?;
                Ok(if next <= *at { next } else { start })
            }
            Self::Day => at.start_of_day(),
            Self::Week => {
                let days = i32::from(day.weekday().to_monday_zero_offset());
                beginning(day.checked_sub(days.days())?, at)
            }
            Self::Month => beginning(day.first_of_month(), at),
        }
    }

    /// The beginning of the unit after the one that begins here.
    fn after(self, start: &Zoned) -> Result<Zoned, jiff::Error> {
        match self {
            Self::Minute => start.checked_add(1.minute()),
            // Where clocks move by half an hour, one that begins late ends at the full hour.
            Self::Hour => start.checked_add((60 - i64::from(start.minute())).minutes()),
            _ => beginning(start.date().checked_add(self.span(1))?, start),
        }
    }
}

/// The first instant of a day in the zone of another.
fn beginning(day: Date, zone_of: &Zoned) -> Result<Zoned, jiff::Error> {
    day.to_zoned(zone_of.time_zone().clone())?.start_of_day()
}

impl Named for Unit {
    const ALL: &'static [(&'static str, Self)] = &[
        ("minute", Self::Minute),
        ("hour", Self::Hour),
        ("day", Self::Day),
        ("week", Self::Week),
        ("month", Self::Month),
    ];
}

/// What is asked about: from an instant to before another, as one zone's calendar sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Period {
    pub from: Zoned,
    pub to: Zoned,
}

impl Period {
    /// The range of the parameters; without one the last units up to now, this one included.
    pub fn read(params: &Params, unit: Unit, now: Timestamp) -> Result<Self, StatsError> {
        let zone = zone(params.text("tz").unwrap_or("UTC"))?;
        let now = now.to_zoned(zone.clone());
        let whole = || {
            let to = match edge(params, "to", &zone)? {
                Some(to) => to,
                None => unit.floor(&now).and_then(|it| unit.after(&it)).map_err(outside)?,
            };
            let from = match edge(params, "from", &zone)? {
                Some(from) => from,
                None => to.checked_sub(unit.span(unit.default_count())).map_err(outside)?,
            };
            Ok::<_, StatsError>(Self { from, to })
        };
        whole()?.checked()
    }

    fn checked(self) -> Result<Self, StatsError> {
        if self.from >= self.to {
            return Err(unusable(format!(
                "the range is empty: `from` ({}) is included, `to` ({}) is not",
                rfc3339(&self.from),
                rfc3339(&self.to)
            )));
        }
        // Midnight of the first day of 1970 was earlier in the east.
        let earliest = Timestamp::from_second(-86_400).expect("an instant");
        if self.from.timestamp() < earliest || self.to.year() > 2_200 {
            return Err(unusable("the range has to lie between 1970 and 2200"));
        }
        Ok(self)
    }

    /// The range of the parameters, as far as they give one.
    pub fn read_or_all(params: &Params, now: Timestamp) -> Result<Self, StatsError> {
        let zone = zone(params.text("tz").unwrap_or("UTC"))?;
        let all = Self::all(now);
        Self {
            from: edge(params, "from", &zone)?.unwrap_or(all.from),
            to: edge(params, "to", &zone)?.unwrap_or(all.to),
        }
        .checked()
    }

    /// Everything there is; the same all day long.
    pub fn all(now: Timestamp) -> Self {
        // No event may lie more than a day ahead.
        let to = now.to_zoned(TimeZone::UTC).date().saturating_add(3.days());
        let whole = |day: Date| day.to_zoned(TimeZone::UTC).expect("a day near 1970 or now");
        Self { from: whole(jiff::civil::date(1970, 1, 1)), to: whole(to) }
    }

    /// The same, widened to whole units.
    pub fn widened(self, unit: Unit) -> Result<Self, StatsError> {
        let widen = || {
            let from = unit.floor(&self.from)?;
            let to = unit.floor(&self.to)?;
            let to = if to < self.to { unit.after(&to)? } else { to };
            Ok(Self { from, to })
        };
        widen().map_err(outside)
    }

    pub fn from_us(&self) -> i64 {
        self.from.timestamp().as_microsecond()
    }

    pub fn to_us(&self) -> i64 {
        self.to.timestamp().as_microsecond()
    }

    /// The UTC days it touches.
    pub fn utc_days(&self) -> (Date, Date) {
        let day = |at: Timestamp| at.to_zoned(TimeZone::UTC).date();
        let last = self.to.timestamp() - jiff::SignedDuration::from_micros(1);
        (day(self.from.timestamp()), day(last).saturating_add(1.day()))
    }
}

/// One unit of a period; the first and the last may be cut short by it.
#[derive(Debug, Clone, PartialEq)]
pub struct Bucket {
    /// Where the whole unit begins.
    pub start: Zoned,
    pub from_us: i64,
    pub to_us: i64,
}

/// The units of a period: side by side and in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Buckets(Vec<Bucket>);

impl Buckets {
    pub fn of(period: &Period, unit: Unit) -> Result<Self, StatsError> {
        let mut buckets = Vec::new();
        let mut start = unit.floor(&period.from).map_err(outside)?;
        while start < period.to {
            if buckets.len() == unit.count_max() {
                return Err(unusable(format!(
                    "the range has more than {} units; narrow it, or ask for a larger `unit`",
                    unit.count_max()
                )));
            }
            let next = unit.after(&start).map_err(outside)?;
            let from_us = start.timestamp().as_microsecond();
            if unit != Unit::Minute && from_us.rem_euclid(SLOT_US) != 0 {
                return Err(unusable(
                    "in this zone clocks were not a multiple of a quarter of an hour away from UTC \
                     then; ask with `tz=UTC`",
                ));
            }
            buckets.push(Bucket {
                from_us: from_us.max(period.from_us()),
                to_us: next.timestamp().as_microsecond().min(period.to_us()),
                start: std::mem::replace(&mut start, next),
            });
        }
        Ok(Self(buckets))
    }

    /// The whole period as one.
    pub fn one(period: &Period) -> Self {
        let (from_us, to_us) = (period.from_us(), period.to_us());
        Self(vec![Bucket { start: period.from.clone(), from_us, to_us }])
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Bucket> {
        self.0.iter()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// In which an instant lies.
    pub fn place(&self, at_us: i64) -> Option<usize> {
        let after = self.0.partition_point(|it| it.from_us <= at_us);
        let at = after.checked_sub(1)?;
        (at_us < self.0[at].to_us).then_some(at)
    }
}

/// A zone by its name in the IANA database, or an offset such as `+05:30`.
fn zone(name: &str) -> Result<TimeZone, StatsError> {
    if name == "UTC" || name == "Z" {
        return Ok(TimeZone::UTC);
    }
    if let Some(offset) = offset(name) {
        return Ok(TimeZone::fixed(offset));
    }
    TimeZone::get(name).map_err(|_unknown| {
        unusable(format!(
            "`tz` is {name:?}, which is no zone; it looks like Europe/Berlin, UTC or +02:00"
        ))
    })
}

/// A plus in a query is a blank.
fn offset(text: &str) -> Option<Offset> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'+' | b' ' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let (hours, minutes) = digits.split_once(':')?;
    let number = |text: &str| (text.len() == 2).then(|| text.parse::<i32>().ok())?;
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    if hours > 14 || minutes > 59 {
        return None;
    }
    Offset::from_seconds(sign * (hours * 3_600 + minutes * 60)).ok()
}

/// One end of the range, where the parameters give it.
fn edge(params: &Params, name: &str, zone: &TimeZone) -> Result<Option<Zoned>, StatsError> {
    params.text(name).map(|text| instant(name, text, zone)).transpose()
}

/// A date is the beginning of that day in the zone; a time without an offset is the zone's.
fn instant(name: &str, text: &str, zone: &TimeZone) -> Result<Zoned, StatsError> {
    // A plus in a query is a blank; before a date's time there is a `T` or a blank.
    let plus = text.rfind(' ').filter(|at| *at > 10);
    let text = plus.map_or(text.to_owned(), |at| format!("{}+{}", &text[..at], &text[at + 1..]));
    if text.len() == 10
        && let Ok(day) = text.parse::<Date>()
    {
        return day.to_zoned(zone.clone()).and_then(|it| it.start_of_day()).map_err(outside);
    }
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant.to_zoned(zone.clone()));
    }
    match text.parse::<DateTime>() {
        Ok(local) => local.to_zoned(zone.clone()).map_err(outside),
        Err(_) => Err(unusable(format!(
            "`{name}` is {text:?}; it can be a date such as 2026-11-21, or a time such as \
             2026-11-21T10:00:00Z"
        ))),
    }
}

fn outside(_error: jiff::Error) -> StatsError {
    unusable("the range has to lie between 1970 and 2200")
}

/// With `Z` in UTC, else with the offset that was in force.
pub fn rfc3339(at: &Zoned) -> String {
    if at.time_zone() == &TimeZone::UTC {
        return at.timestamp().to_string();
    }
    at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn period(query: &str, unit: Unit) -> Result<Period, StatsError> {
        let now = "2026-11-21T10:20:30.5Z".parse().unwrap();
        Period::read(&Params::read(query, &[&RANGE]).unwrap(), unit, now)
    }

    fn starts(query: &str, unit: Unit) -> Vec<String> {
        let buckets = Buckets::of(&period(query, unit).unwrap(), unit).unwrap();
        buckets.iter().map(|it| rfc3339(&it.start)).collect()
    }

    #[test]
    fn one_end_of_a_range_says_nothing_of_the_other() {
        let now = "2026-11-21T22:00:00Z".parse().unwrap();
        let read = |query| {
            let params = Params::read(query, &[&RANGE]).unwrap();
            let period = Period::read_or_all(&params, now)?;
            Ok::<_, StatsError>((rfc3339(&period.from), rfc3339(&period.to)))
        };
        let (start, end) = ("1970-01-01T00:00:00Z".to_owned(), "2026-11-24T00:00:00Z".to_owned());
        let midnight = "2026-11-23T00:00:00+05:30".to_owned();
        assert_eq!(read("tz=Asia/Kolkata&from=2026-11-23").unwrap(), (midnight, end));
        assert_eq!(read("to=1970-01-20").unwrap(), (start, "1970-01-20T00:00:00Z".to_owned()));
        assert!(read("from=2026-11-25").is_err() && read("to=1970-01-01").is_err());
    }

    #[test]
    fn without_a_range_the_last_units_up_to_now_are_meant() {
        let days = starts("", Unit::Day);
        assert_eq!(
            (days.len(), &*days[0], &*days[29]),
            (30, "2026-10-23T00:00:00Z", "2026-11-21T00:00:00Z")
        );
        let minutes = starts("", Unit::Minute);
        assert_eq!((minutes.len(), &*minutes[59]), (60, "2026-11-21T10:20:00Z"));
        assert_eq!(starts("tz=Asia/Kolkata", Unit::Hour)[47], "2026-11-21T15:00:00+05:30");
        let weeks = starts("from=2026-11-01", Unit::Week);
        assert_eq!((&*weeks[0], &*weeks[1]), ("2026-10-26T00:00:00Z", "2026-11-02T00:00:00Z"));
        assert_eq!(starts("from=2026-09-30&to=2026-11-01", Unit::Month).len(), 2);
    }

    #[test]
    fn a_day_has_as_many_hours_as_the_zone_gives_it() {
        let query = "tz=Europe/Berlin&from=2026-10-25&to=2026-10-26";
        assert_eq!(starts(query, Unit::Hour).len(), 25);
        assert_eq!(starts(query, Unit::Day), ["2026-10-25T00:00:00+02:00"]);
        let query = "tz=Australia/Lord_Howe&from=2026-04-05&to=2026-04-06";
        assert_eq!(period(query, Unit::Day).unwrap().from_us() % SLOT_US, 0);
        assert_eq!(starts(query, Unit::Hour).len(), 25);
        assert_eq!(
            starts("tz=America/Sao_Paulo&from=2018-11-04&to=2018-11-05", Unit::Day),
            ["2018-11-04T01:00:00-02:00"]
        );
    }

    #[test]
    fn the_ends_of_a_range_cut_their_units() {
        let period = period("from=2026-11-20T23:59:59.5Z&to=2026-11-21T00:00:00.25Z", Unit::Day);
        let buckets = Buckets::of(&period.unwrap(), Unit::Day).unwrap();
        let cut: Vec<_> = buckets.iter().map(|it| it.to_us - it.from_us).collect();
        assert_eq!(cut, [500_000, 250_000]);
        let first = buckets.iter().next().unwrap();
        assert_eq!(buckets.place(first.from_us - 1), None);
        assert_eq!(buckets.place(first.from_us), Some(0));
        assert_eq!(buckets.place(first.to_us), Some(1));
        assert_eq!(buckets.place(first.to_us + 250_000), None);
    }

    #[test]
    fn instants_are_read_as_people_write_them() {
        let same = [
            "2026-11-01T02:00:00+02:00",
            "2026-11-01T02:00:00 02:00",
            "2026-11-01T00:00:00Z",
            "2026-11-01",
            "2026-11-01T00:00:00",
            "2026-11-01 00:00:00",
        ];
        for text in same {
            let period = period(&format!("from={text}&to=2026-12-01"), Unit::Day).unwrap();
            assert_eq!(period.from.timestamp().to_string(), "2026-11-01T00:00:00Z", "{text}");
        }
        for wrong in [
            "from=2026-11-31",
            "from=yesterday",
            "from=2026-11-02&to=2026-11-02",
            "tz=Mars/Olympus",
            "tz=+25:00",
            "from=1960-01-01",
            "to=9999-01-01",
            "from=2026-11-03&to=2026-11-02",
        ] {
            assert!(period(wrong, Unit::Day).is_err(), "{wrong}");
        }
        assert_eq!(
            period("tz=+05:30&from=2026-11-01", Unit::Day).unwrap().from.timestamp().to_string(),
            "2026-10-31T18:30:00Z"
        );
        let long = period("from=2026-01-01&to=2026-11-01", Unit::Minute).unwrap();
        assert!(Buckets::of(&long, Unit::Minute).is_err());
    }
}
