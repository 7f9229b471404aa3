//! Which cells answer for a range: whole UTC days first, then slots, and facts where it cuts a slot.

use std::ops::Range;

use common::stats::{DAY_SLOTS, SLOT_US, day_of_slot, first_slot_of_day};

use super::calendar::Buckets;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub days: Vec<Range<i32>>,
    pub slots: Vec<Range<i32>>,
    /// Slots of which only a part is in the range.
    pub cut: Vec<Range<i32>>,
}

impl Plan {
    pub fn of(buckets: &Buckets) -> Self {
        let mut plan = Self::default();
        for bucket in buckets.iter() {
            plan.cover(bucket.from_us, bucket.to_us);
        }
        plan
    }

    /// The same, where the edges between the units do not matter.
    pub fn across(buckets: &Buckets) -> Self {
        let mut plan = Self::default();
        let mut edges = buckets.iter();
        if let Some(first) = edges.next() {
            plan.cover(first.from_us, edges.next_back().unwrap_or(first).to_us);
        }
        plan
    }

    fn cover(&mut self, from_us: i64, to_us: i64) {
        let whole = ceiling(from_us, SLOT_US)..slot(to_us.div_euclid(SLOT_US));
        if whole.start > whole.end {
            // Both ends lie in one slot.
            return join(&mut self.cut, whole.end..whole.start);
        }
        if from_us.rem_euclid(SLOT_US) != 0 {
            join(&mut self.cut, whole.start - 1..whole.start);
        }
        let days = day_of_slot(whole.start + DAY_SLOTS - 1)..day_of_slot(whole.end);
        if days.is_empty() {
            join(&mut self.slots, whole.clone());
        } else {
            join(&mut self.slots, whole.start..first_slot_of_day(days.start));
            join(&mut self.slots, first_slot_of_day(days.end)..whole.end);
            join(&mut self.days, days);
        }
        if to_us.rem_euclid(SLOT_US) != 0 {
            join(&mut self.cut, whole.end..whole.end + 1);
        }
    }
}

/// Every slot that a range touches.
pub fn touched(from_us: i64, to_us: i64) -> Range<i32> {
    slot(from_us.div_euclid(SLOT_US))..ceiling(to_us, SLOT_US)
}

fn ceiling(at_us: i64, unit_us: i64) -> i32 {
    slot(-(-at_us).div_euclid(unit_us))
}

fn slot(number: i64) -> i32 {
    i32::try_from(number).expect("periods end in 2200")
}

/// Adds a range behind the others; neighbours become one.
fn join(ranges: &mut Vec<Range<i32>>, range: Range<i32>) {
    match ranges.last_mut() {
        _ if range.is_empty() => {}
        Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
        _ => ranges.push(range),
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "a plan has lists of ranges, often of one")]
mod tests {
    use super::super::calendar::{Period, RANGE, Unit};
    use super::super::params::Params;
    use super::*;

    fn plan(query: &str, unit: Unit) -> Plan {
        let params = Params::read(query, &[&RANGE]).unwrap();
        let period = Period::read(&params, unit, jiff::Timestamp::UNIX_EPOCH).unwrap();
        Plan::of(&Buckets::of(&period, unit).unwrap())
    }

    #[test]
    fn utc_days_are_read_as_days() {
        let plan = plan("from=1970-01-02&to=1970-01-05", Unit::Day);
        assert_eq!(plan, Plan { days: vec![1..4], ..Plan::default() });
    }

    #[test]
    fn days_of_another_zone_are_read_by_slots_and_its_weeks_by_both() {
        let days = plan("from=1970-01-02&to=1970-01-05&tz=%2B05:30", Unit::Day);
        assert_eq!(days.slots, [96 - 22..4 * 96 - 22]);
        assert!(days.days.is_empty());
        let weeks = plan("from=1970-01-05&to=1970-01-19&tz=%2B01:00", Unit::Week);
        assert_eq!(weeks.days, [4..10, 11..17]);
        assert_eq!(weeks.slots, [4 * 96 - 4..4 * 96, 10 * 96..11 * 96, 17 * 96..18 * 96 - 4]);
    }

    #[test]
    fn a_cut_slot_is_read_fact_by_fact() {
        let within = plan("from=1970-01-02T00:01:00Z&to=1970-01-02T00:02:00Z", Unit::Day);
        assert_eq!(within, Plan { cut: vec![96..97], ..Plan::default() });
        let across = plan("from=1970-01-02T00:01:00Z&to=1970-01-04T00:20:00Z", Unit::Day);
        assert_eq!(across.cut, [96..97, 3 * 96 + 1..3 * 96 + 2]);
        assert_eq!(across.slots, [97..2 * 96, 3 * 96..3 * 96 + 1]);
        assert_eq!(across.days, [2..3]);
        assert_eq!(touched(1, 2), 0..1);
        assert_eq!(touched(-1, SLOT_US + 1), -1..2);
    }
}
