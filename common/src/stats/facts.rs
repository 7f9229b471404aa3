//! Facts: one event of a slot and kind in eight bytes or so.

use std::collections::BTreeMap;

use super::slot::{Slot, place};
use super::{BrokenCell, Cell, varint};

/// An event: by whom, when within the slot, to what (0: to nothing).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fact {
    pub user: u32,
    pub us: u32,
    pub object: u32,
}

/// The events of one slot and kind, by user and then time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts(pub Vec<Fact>);

impl Facts {
    /// The same without keeping them.
    pub fn each(mut body: &[u8], mut each: impl FnMut(Fact)) -> Result<(), BrokenCell> {
        let mut user: u32 = 0;
        while !body.is_empty() {
            user = user.checked_add(varint::take_as(&mut body)?).ok_or(BrokenCell)?;
            let (us, rest) = body.split_first_chunk::<4>().ok_or(BrokenCell)?;
            body = rest;
            let object = varint::take_as(&mut body)?;
            each(Fact { user, us: u32::from_le_bytes(*us), object });
        }
        Ok(())
    }

    fn pack_into(&self, out: &mut Vec<u8>) {
        let mut last = 0;
        for fact in &self.0 {
            varint::put(u64::from(fact.user - last), out);
            out.extend_from_slice(&fact.us.to_le_bytes());
            varint::put(u64::from(fact.object), out);
            last = fact.user;
        }
    }
}

impl Cell for Facts {
    fn unpack(body: &[u8]) -> Result<Self, BrokenCell> {
        let mut facts = Vec::with_capacity(body.len() / 8);
        Self::each(body, |fact| facts.push(fact))?;
        Ok(Self(facts))
    }

    fn pack(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(9 * self.0.len());
        self.pack_into(&mut out);
        out
    }

    fn absorb(&mut self, other: Self) {
        self.0.extend(other.0);
        // Two sorted runs, which this sort recognises.
        self.0.sort();
    }
}

/// What one step of a source adds: facts by slot and kind, one after the other.
pub mod delta {
    use super::{BTreeMap, BrokenCell, Cell, Fact, Facts, Slot, place, varint};

    /// Groups events: instant in microseconds, kind, user, object.
    pub fn group(events: impl IntoIterator<Item = (i64, i32, u32, u32)>) -> Groups {
        let mut groups = Groups::new();
        for (at_us, kind, user, object) in events {
            let (slot, us) = place(at_us);
            groups.entry((slot, kind)).or_default().0.push(Fact { user, us, object });
        }
        groups.values_mut().for_each(|it| it.0.sort_unstable());
        groups
    }

    pub type Groups = BTreeMap<(Slot, i32), Facts>;

    pub fn pack(groups: &Groups) -> Vec<u8> {
        let mut out = Vec::new();
        let mut body = Vec::new();
        for ((slot, kind), facts) in groups {
            body.clear();
            facts.pack_into(&mut body);
            varint::put_signed(*slot, &mut out);
            varint::put_signed(*kind, &mut out);
            varint::put(body.len() as u64, &mut out);
            out.extend_from_slice(&body);
        }
        out
    }

    /// Calls with slot, kind and the packed facts of each group.
    pub fn each(
        mut body: &[u8],
        mut each: impl FnMut(Slot, i32, &[u8]) -> Result<(), BrokenCell>,
    ) -> Result<(), BrokenCell> {
        while !body.is_empty() {
            let slot = varint::take_signed(&mut body)?;
            let kind = varint::take_signed(&mut body)?;
            let length: usize = varint::take_as(&mut body)?;
            let (facts, rest) = body.split_at_checked(length).ok_or(BrokenCell)?;
            body = rest;
            each(slot, kind, facts)?;
        }
        Ok(())
    }

    /// Adds what a delta holds to groups.
    pub fn unpack_into(groups: &mut Groups, body: &[u8]) -> Result<(), BrokenCell> {
        each(body, |slot, kind, facts| {
            groups.entry((slot, kind)).or_default().absorb(Facts::unpack(facts)?);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Counts, Firsts, Objects, Users};
    use super::*;

    fn fact(user: u32, us: u32, object: u32) -> Fact {
        Fact { user, us, object }
    }

    fn comes_back<C: Cell + PartialEq + std::fmt::Debug>(cell: &C) {
        assert_eq!(C::unpack(&cell.pack()).as_ref(), Ok(cell));
    }

    #[test]
    fn every_cell_comes_back_as_it_was() {
        let facts = Facts(vec![fact(1, 0, 0), fact(1, 899_999_999, 7), fact(70_000, 5, u32::MAX)]);
        comes_back(&facts);
        comes_back(&Users::of(&facts));
        comes_back(&Objects::of([&facts]));
        comes_back(&Counts::by_minute(&facts));
        let mut firsts = Firsts::default();
        firsts.note(5_000, -3);
        firsts.note(5_000, 8);
        comes_back(&firsts);
        assert_eq!(firsts.iter(1).collect::<Vec<_>>(), [(5_000, -3)]);
    }

    #[test]
    fn cells_add_up_as_their_facts_do() {
        let one = Facts(vec![fact(1, 0, 3), fact(9, 61_000_000, 4)]);
        let two = Facts(vec![fact(1, 2, 4), fact(2, 60_000_000, 0)]);
        let mut both = one.clone();
        both.absorb(two.clone());
        assert!(both.0.is_sorted());
        let (mut users, mut objects) = (Users::of(&one), Objects::of([&one]));
        users.absorb(Users::of(&two));
        objects.absorb(Objects::of([&two]));
        assert_eq!((users, objects), (Users::of(&both), Objects::of([&both])));
        let mut counts = Counts::by_minute(&one);
        counts.absorb(Counts::by_minute(&two));
        assert_eq!(counts, Counts::by_minute(&both));
        assert_eq!((counts.0[0], counts.0[1], counts.sum()), (2, 2, 4));
    }

    #[test]
    fn a_delta_holds_what_was_grouped() {
        let groups = delta::group([(-1, 3, 8, 0), (0, 3, 8, 1), (1, 4, 2, 1), (0, 3, 1, 1)]);
        let mut again = delta::Groups::new();
        delta::unpack_into(&mut again, &delta::pack(&groups)).unwrap();
        assert_eq!(again, groups);
        assert_eq!(groups[&(0, 3)].0, [fact(1, 0, 1), fact(8, 0, 1)]);
        assert_eq!(groups[&(-1, 3)].0, [fact(8, 899_999_999, 0)]);
    }

    #[test]
    fn a_broken_cell_is_an_error_not_a_panic() {
        let body = Facts(vec![fact(1, 2, 300)]).pack();
        assert_eq!(Facts::unpack(&body[..body.len() - 1]), Err(BrokenCell));
        assert!(Firsts::unpack(&[1, 2, 3]).is_err());
        assert!(Users::unpack(&[1, 2, 3]).is_err());
        assert!(delta::each(&[0, 2, 9, 1], |_, _, _| Ok(())).is_err());
    }
}
