//! Users of days that are in Postgres already: most of those who act have acted before on that day.

use hashbrown::HashSet;
use jiff::civil::Date;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::sums::Sums;

/// What one follower has entered, as far as it remembers. Two users of one day would have to agree
/// in 128 bits to be taken for each other, as two event ids would.
#[derive(Debug, Default)]
pub struct Entered {
    users: HashSet<u128>,
    /// What Postgres said in another life does not count.
    generation: i64,
}

impl Entered {
    /// One and a half MiB, for each source.
    const USERS_MAX: usize = 1 << 16;

    /// Those that are not known to be entered; sorted, since two sources that enter the same users
    /// then wait for each other in the same order.
    pub fn unknown<'a>(
        &mut self,
        sums: impl IntoIterator<Item = &'a (impl AsRef<Sums> + 'a)>,
    ) -> Vec<(Date, &'a str)> {
        let mut users = Vec::new();
        for sums in sums {
            let sums = sums.as_ref();
            if self.generation != sums.generation {
                self.users.clear();
                self.generation = sums.generation;
            }
            users.extend(sums.users().filter(|(day, user)| !self.users.contains(&key(*day, user))));
        }
        users.sort_unstable();
        users.dedup();
        users
    }

    /// Remembers users that a committed transaction has entered.
    pub fn remember(&mut self, users: &[(Date, &str)]) {
        if self.users.len() + users.len() > Self::USERS_MAX {
            self.users.clear();
        }
        let room = Self::USERS_MAX - self.users.len();
        self.users.extend(users.iter().take(room).map(|(day, user)| key(*day, user)));
    }
}

fn key(day: Date, user: &str) -> u128 {
    let [year, month, day] = [day.year() as u64, day.month() as u64, day.day() as u64];
    xxh3_128_with_seed(user.as_bytes(), year << 16 | month << 8 | day)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::civil::date;

    use super::*;

    fn sums(generation: i64, users: &[&str]) -> [Arc<Sums>; 1] {
        [Arc::new(Sums::of_users(generation, users))]
    }

    #[test]
    fn who_was_entered_is_not_entered_again() {
        let mut entered = Entered::default();
        let day = date(1970, 1, 1);
        let first = sums(1, &["b", "a"]);
        let users = entered.unknown(&first);
        assert_eq!(users, [(day, "a"), (day, "b")]);
        entered.remember(&users);
        assert_eq!(entered.unknown(&sums(1, &["a", "c"])), [(day, "c")]);
    }

    #[test]
    fn another_generation_knows_nobody() {
        let mut entered = Entered::default();
        let first = sums(1, &["a"]);
        let users = entered.unknown(&first);
        entered.remember(&users);
        assert_eq!(entered.unknown(&sums(2, &["a"])).len(), 1);
    }

    #[test]
    fn memory_is_bounded() {
        let mut entered = Entered::default();
        let names: Vec<_> = (0..100_000).map(|it| it.to_string()).collect();
        let day = date(1970, 1, 1);
        for chunk in names.chunks(1_000) {
            entered.remember(&chunk.iter().map(|it| (day, &**it)).collect::<Vec<_>>());
        }
        assert!(entered.users.len() <= Entered::USERS_MAX);
    }
}
