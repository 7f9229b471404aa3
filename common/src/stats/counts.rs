//! Counts side by side: of the minutes of a slot, or the one of a day.

use super::facts::Facts;
use super::slot::SLOT_MINUTES;
use super::{BrokenCell, Cell, varint};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts(pub Vec<u64>);

impl Counts {
    pub fn by_minute(facts: &Facts) -> Self {
        let mut counts = vec![0; SLOT_MINUTES];
        facts.0.iter().for_each(|it| counts[(it.us / 60_000_000) as usize] += 1);
        Self(counts)
    }

    pub fn one(count: usize) -> Self {
        Self(vec![count as u64])
    }

    pub fn sum(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl Cell for Counts {
    fn unpack(mut body: &[u8]) -> Result<Self, BrokenCell> {
        let mut counts = Vec::with_capacity(SLOT_MINUTES);
        while !body.is_empty() {
            counts.push(varint::take(&mut body)?);
        }
        Ok(Self(counts))
    }

    fn pack(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(2 * self.0.len());
        self.0.iter().for_each(|it| varint::put(*it, &mut out));
        out
    }

    fn absorb(&mut self, other: Self) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count += more);
    }
}
