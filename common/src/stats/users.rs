//! Users as a Roaring bitmap of their numbers, in its portable form.

use roaring::RoaringBitmap;

use super::facts::Facts;
use super::{BrokenCell, Cell};

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Users(pub RoaringBitmap);

impl Users {
    pub fn of(facts: &Facts) -> Self {
        let mut users: Vec<u32> = facts.0.iter().map(|it| it.user).collect();
        users.dedup();
        Self(users.into_iter().collect())
    }
}

impl Cell for Users {
    fn unpack(body: &[u8]) -> Result<Self, BrokenCell> {
        RoaringBitmap::deserialize_from(body).map(Self).map_err(|_| BrokenCell)
    }

    fn pack(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.0.serialized_size());
        self.0.serialize_into(&mut out).expect("a vector takes everything");
        out
    }

    fn absorb(&mut self, other: Self) {
        self.0 |= other.0;
    }
}
