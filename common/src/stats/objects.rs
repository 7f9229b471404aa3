//! How often each object, by its number.

use std::collections::BTreeMap;

use super::facts::Facts;
use super::{BrokenCell, Cell, varint};

/// Sorted by object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Objects(Vec<(u32, u64)>);

impl Objects {
    pub fn of<'a>(facts: impl IntoIterator<Item = &'a Facts>) -> Self {
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        let facts = facts.into_iter().flat_map(|it| &it.0).filter(|it| it.object > 0);
        facts.for_each(|it| *counts.entry(it.object).or_default() += 1);
        Self(counts.into_iter().collect())
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, u64)> {
        self.0.iter().copied()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same without keeping it.
    pub fn each(mut body: &[u8], mut each: impl FnMut(u32, u64)) -> Result<(), BrokenCell> {
        let mut object: u32 = 0;
        while !body.is_empty() {
            object = object.checked_add(varint::take_as(&mut body)?).ok_or(BrokenCell)?;
            each(object, varint::take(&mut body)?);
        }
        Ok(())
    }
}

impl Cell for Objects {
    fn unpack(body: &[u8]) -> Result<Self, BrokenCell> {
        let mut counts = Vec::with_capacity(body.len() / 3);
        Self::each(body, |object, count| counts.push((object, count)))?;
        Ok(Self(counts))
    }

    fn pack(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(3 * self.0.len());
        let mut last = 0;
        for (object, count) in &self.0 {
            varint::put(u64::from(object - last), &mut out);
            varint::put(*count, &mut out);
            last = *object;
        }
        out
    }

    fn absorb(&mut self, other: Self) {
        let mine = std::mem::take(&mut self.0);
        let mut merged = Vec::with_capacity(mine.len() + other.0.len());
        let (mut mine, mut others) = (mine.into_iter().peekable(), other.0.into_iter().peekable());
        loop {
            match (mine.peek(), others.peek()) {
                (Some(a), Some(b)) if a.0 == b.0 => {
                    merged.push((a.0, a.1 + b.1));
                    mine.next();
                    others.next();
                }
                (Some(a), Some(b)) if a.0 < b.0 => merged.extend(mine.next()),
                (_, Some(_)) => merged.extend(others.next()),
                (Some(_), None) => merged.extend(mine.next()),
                (None, None) => break,
            }
        }
        self.0 = merged;
    }
}
