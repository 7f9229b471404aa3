//! The slot of each user's first event ever, for a block of user numbers.

use super::slot::Slot;
use super::{BrokenCell, Cell};

/// By the user's place in the block; `UNSEEN` for those who have done nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firsts(Vec<Slot>);

impl Firsts {
    /// Users of a block.
    pub const BLOCK: u32 = 4_096;

    const UNSEEN: Slot = Slot::MAX;

    /// The block of a user.
    pub fn block(user: u32) -> i32 {
        (user / Self::BLOCK).cast_signed()
    }

    /// Notes an event: the first is the earliest, whatever comes later.
    pub fn note(&mut self, user: u32, slot: Slot) {
        let first = &mut self.0[(user % Self::BLOCK) as usize];
        *first = slot.min(*first);
    }

    /// Users of the block with their slots.
    pub fn iter(&self, block: i32) -> impl Iterator<Item = (u32, Slot)> {
        let first_user = block.cast_unsigned() * Self::BLOCK;
        (first_user..).zip(self.0.iter().copied()).filter(|(_, slot)| *slot != Self::UNSEEN)
    }
}

impl Default for Firsts {
    fn default() -> Self {
        Self(vec![Self::UNSEEN; Self::BLOCK as usize])
    }
}

impl Cell for Firsts {
    fn unpack(body: &[u8]) -> Result<Self, BrokenCell> {
        let (slots, []) = body.as_chunks::<4>() else { return Err(BrokenCell) };
        if slots.len() != Self::BLOCK as usize {
            return Err(BrokenCell);
        }
        Ok(Self(slots.iter().map(|it| Slot::from_le_bytes(*it)).collect()))
    }

    fn pack(&self) -> Vec<u8> {
        self.0.iter().flat_map(|it| it.to_le_bytes()).collect()
    }

    fn absorb(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(first, other)| *first = other.min(*first));
    }
}
