//! Users of days that are in Postgres already: most of those who act have acted before on that day.

use common::stats::{day_of_slot, place};
use roaring::RoaringTreemap;

use super::digest::Coded;

/// Pairs of a UTC day (since 1970) and a user's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UserOfDay(u64);

impl UserOfDay {
    fn of(event: &Coded) -> Self {
        let day = day_of_slot(place(event.at_us).0);
        Self(u64::from(day.cast_unsigned()) << 32 | u64::from(event.user))
    }

    pub fn day(self) -> i32 {
        ((self.0 >> 32) as u32).cast_signed()
    }

    pub fn user(self) -> u32 {
        self.0 as u32
    }
}

/// A row of `users_of_days`: some users of a day with neighbouring numbers, a bit each.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    pub day: i32,
    pub number: i32,
    pub bits: Vec<u8>,
}

impl Block {
    /// Migration 0014 says why so many.
    const USERS: u32 = 4_096;

    /// Of sorted users, in order.
    pub fn all(users: &[UserOfDay]) -> Vec<Self> {
        let place = |it: &UserOfDay| (it.day(), it.user() / Self::USERS);
        users.chunk_by(|one, other| place(one) == place(other)).map(Self::of).collect()
    }

    fn of(users: &[UserOfDay]) -> Self {
        let mut bits = vec![0; Self::USERS as usize / 8];
        for user in users {
            let bit = user.user() % Self::USERS;
            // Postgres counts bits from the left.
            bits[bit as usize / 8] |= 0x80 >> (bit % 8);
        }
        Self { day: users[0].day(), number: (users[0].user() / Self::USERS).cast_signed(), bits }
    }
}

/// What one follower has entered since it last read its mark, as far as it remembers: what a crash of
/// Postgres forgets of this, it forgets with the mark.
#[derive(Debug, Default)]
pub struct Entered {
    users: RoaringTreemap,
    /// What Postgres said in another life does not count, nor do its numbers.
    generation: i64,
}

impl Entered {
    /// Half a MiB or so, for each source.
    const USERS_MAX: usize = 1 << 18;

    /// Those that are not known to be entered; sorted, since two sources that enter the same users
    /// then wait for each other in the same order.
    pub fn unknown(&mut self, generation: i64, events: &[Coded]) -> Vec<UserOfDay> {
        if self.generation != generation {
            *self = Self { generation, ..Self::default() };
        }
        let mut users: Vec<_> = events.iter().map(UserOfDay::of).collect();
        users.sort_unstable();
        users.dedup();
        users.retain(|it| !self.users.contains(it.0));
        users
    }

    /// Remembers users that a committed transaction has entered.
    pub fn remember(&mut self, users: &[UserOfDay]) {
        if self.users.len() as usize + users.len() > Self::USERS_MAX {
            self.forget();
        }
        self.users.extend(users.iter().take(Self::USERS_MAX).map(|it| it.0));
    }

    pub fn forget(&mut self) {
        self.users.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_US: i64 = 86_400_000_000;

    fn acts(day: i64, users: &[u32]) -> Vec<Coded> {
        let acts = users.iter().map(|user| Coded {
            offset: 0,
            at_us: day * DAY_US,
            user: *user,
            kind: 1,
            event_type: 1,
            object: 0,
        });
        acts.collect()
    }

    #[test]
    fn users_of_a_day_are_bits_of_their_blocks() {
        let users = Entered::default().unknown(1, &acts(3, &[1, 8, 4_095, 4_096]));
        let [first, second] = &Block::all(&users)[..] else { panic!("two blocks") };
        assert_eq!((first.day, first.number, second.day, second.number), (3, 0, 3, 1));
        assert_eq!((first.bits[0], first.bits[1], first.bits[511]), (0x40, 0x80, 0x01));
        assert_eq!((second.bits[0], second.bits.len()), (0x80, 512));
    }

    fn pairs(users: &[UserOfDay]) -> Vec<(i32, u32)> {
        users.iter().map(|it| (it.day(), it.user())).collect()
    }

    #[test]
    fn who_was_entered_is_not_entered_again_on_that_day() {
        let mut entered = Entered::default();
        let users = entered.unknown(1, &acts(-3, &[2, 1, 2]));
        assert_eq!(pairs(&users), [(-3, 1), (-3, 2)]);
        entered.remember(&users);
        assert_eq!(pairs(&entered.unknown(1, &acts(-3, &[1, 3]))), [(-3, 3)]);
        assert_eq!(pairs(&entered.unknown(1, &acts(4, &[1]))), [(4, 1)]);
    }

    #[test]
    fn another_generation_knows_nobody() {
        let mut entered = Entered::default();
        let users = entered.unknown(1, &acts(0, &[1]));
        entered.remember(&users);
        assert_eq!(entered.unknown(2, &acts(0, &[1])).len(), 1);
    }

    #[test]
    fn memory_is_bounded() {
        let mut entered = Entered::default();
        for chunk in (0..600).map(|it| (it * 1_000..(it + 1) * 1_000).collect::<Vec<u32>>()) {
            let users = entered.unknown(0, &acts(0, &chunk));
            entered.remember(&users);
        }
        assert!(entered.users.len() as usize <= Entered::USERS_MAX);
    }
}
