//! Quarters of an hour and UTC days, both counted from 1970.

use jiff::Timestamp;

pub const SLOT_MINUTES: usize = 15;
pub const SLOT_US: i64 = 15 * 60 * 1_000_000;
pub const DAY_SLOTS: i32 = 96;

/// The number of a quarter of an hour.
pub type Slot = i32;

/// Where an instant lies: its slot, and microseconds from its beginning.
pub fn place(at_us: i64) -> (Slot, u32) {
    let slot = i32::try_from(at_us.div_euclid(SLOT_US)).expect("a timestamp's slot fits");
    (slot, u32::try_from(at_us.rem_euclid(SLOT_US)).expect("a slot is shorter than 2^32 µs"))
}

pub fn slot_of(at: Timestamp) -> Slot {
    place(at.as_microsecond()).0
}

pub fn day_of_slot(slot: Slot) -> i32 {
    slot.div_euclid(DAY_SLOTS)
}

pub fn first_slot_of_day(day: i32) -> Slot {
    day * DAY_SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_and_days_begin_at_midnight() {
        let midnight: Timestamp = "2026-11-21T00:00:00Z".parse().unwrap();
        let slot = slot_of(midnight);
        assert_eq!(first_slot_of_day(day_of_slot(slot)), slot);
        assert_eq!(place(midnight.as_microsecond() - 1), (slot - 1, (SLOT_US - 1) as u32));
        assert_eq!(place(midnight.as_microsecond() + SLOT_US), (slot + 1, 0));
        assert_eq!(day_of_slot(slot - 1), day_of_slot(slot) - 1);
    }
}
