//! The packed forms of the statistics, which the processor writes and the gateway reads: who did what
//! to what and when, in numbers.
//!
//! Time is cut into slots of a quarter of an hour, since every zone's offset is a multiple of it. Per
//! slot and kind of action there are the facts themselves, their counts by minute and their users as a
//! bitmap; per UTC day, which most questions are about, counts, users and objects once more.

mod counts;
mod facts;
mod firsts;
mod objects;
mod slot;
mod users;
mod varint;

pub use self::counts::Counts;
pub use self::facts::{Fact, Facts, delta};
pub use self::firsts::Firsts;
pub use self::objects::Objects;
pub use self::slot::{
    DAY_SLOTS, SLOT_MINUTES, SLOT_US, Slot, day_of_slot, first_slot_of_day, place, slot_of,
};
pub use self::users::Users;

/// Stands for all kinds of actions together.
pub const ALL_KINDS: i32 = 0;

/// What a cell holds; the numbers are those of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i16)]
pub enum Facet {
    SlotMinutes = 1,
    SlotUsers = 2,
    SlotFacts = 3,
    DayCounts = 4,
    DayUsers = 5,
    DayObjects = 6,
    FirstSlots = 7,
}

impl Facet {
    pub fn number(self) -> i16 {
        self as i16
    }
}

/// A cell is not what was written: Postgres returned other bytes, or another version wrote them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cell of the statistics cannot be read")]
pub struct BrokenCell;

/// The content of a cell: it can be added to, packed and unpacked.
pub trait Cell: Default {
    fn unpack(body: &[u8]) -> Result<Self, BrokenCell>;
    fn pack(&self) -> Vec<u8>;
    fn absorb(&mut self, other: Self);
}
