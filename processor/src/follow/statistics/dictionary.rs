//! Numbers for names: in memory for those that were met lately, in Postgres for all.

use std::sync::{Mutex, MutexGuard, PoisonError};

use deadpool_postgres::Object;
use hashbrown::HashMap;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use xxhash_rust::xxh3::xxh3_128;

use super::digest::END;
use crate::follow::FollowError;
use crate::generation::Generation;

/// The dictionaries of this installation, shared by all sources of this process.
pub struct Dictionaries {
    pub users: Dictionary,
    pub objects: Dictionary,
    pub kinds: Dictionary,
}

impl Dictionaries {
    pub fn new(generation: &Generation) -> Self {
        let of = |columns, find, enter| Dictionary {
            columns,
            find,
            enter,
            generation: generation.clone(),
            known: Mutex::default(),
        };
        Self {
            users: of(1, include_str!("find_users.sql"), include_str!("enter_users.sql")),
            objects: of(2, include_str!("find_objects.sql"), include_str!("enter_objects.sql")),
            kinds: of(4, include_str!("find_kinds.sql"), include_str!("enter_kinds.sql")),
        }
    }
}

/// Names of so many columns and their numbers; a number never changes its owner.
pub struct Dictionary {
    columns: usize,
    find: &'static str,
    enter: &'static str,
    generation: Generation,
    known: Mutex<Known>,
}

impl Dictionary {
    /// The number of each name. Columns of a name end with `END`; a name that has no number yet gets
    /// one, for good.
    pub async fn numbers<'a>(
        &self,
        client: &Object,
        names: impl Iterator<Item = &'a str>,
    ) -> Result<HashMap<&'a str, u32>, FollowError> {
        let generation = self.generation.current();
        let mut numbers = HashMap::new();
        let mut missing = self.known().recall(generation, names, &mut numbers);
        // Sorted: two sources that enter the same names then wait for each other in the same order.
        missing.sort_unstable();
        // Who loses a race for a name finds the winner's number.
        for sql in [self.find, self.enter, self.find] {
            if missing.is_empty() {
                break;
            }
            let found = self.look_up(client, sql, &missing).await?;
            if self.generation.current() == generation {
                self.known().learn(generation, &found);
            }
            missing.retain(|name| match found.get(*name) {
                Some(number) => numbers.insert(name, *number).is_some(),
                None => true,
            });
        }
        if !missing.is_empty() {
            let cause = anyhow::anyhow!("{} names were numbered and are not found", missing.len());
            return Err(FollowError::Unavailable(cause));
        }
        Ok(numbers)
    }

    async fn look_up(
        &self,
        client: &Object,
        sql: &str,
        names: &[&str],
    ) -> Result<HashMap<Box<str>, u32>, FollowError> {
        let mut columns = vec![Vec::with_capacity(names.len()); self.columns];
        for name in names {
            let parts = name.split_terminator(END);
            columns.iter_mut().zip(parts).for_each(|(column, part)| column.push(part));
        }
        let parameters: Vec<&(dyn ToSql + Sync)> =
            columns.iter().map(|it| it as &(dyn ToSql + Sync)).collect();
        let statement = client.prepare_cached(sql).await?;
        let rows = client.query(&statement, &parameters).await?;
        Ok(rows.iter().map(|row| self.entry(row)).collect())
    }

    fn entry(&self, row: &Row) -> (Box<str>, u32) {
        let mut name = String::new();
        for column in 1..=self.columns {
            name.push_str(row.get(column));
            name.push(END);
        }
        (name.into(), row.get::<_, i32>(0).cast_unsigned())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Numbers of names met lately, by the names' hashes: two names would have to agree in 128 bits to be
/// taken for each other, as two event ids would.
#[derive(Default)]
struct Known {
    young: HashMap<[u64; 2], u32>,
    /// What was young before: used again, it is young again; else it goes with the next change.
    old: HashMap<[u64; 2], u32>,
    /// What Postgres said in another life does not count.
    generation: i64,
}

impl Known {
    /// Ten MiB at most for each of the two.
    const NAMES_MAX: usize = 1 << 18;

    /// Puts what is known into `numbers`, and returns the others, each once.
    fn recall<'a>(
        &mut self,
        generation: i64,
        names: impl Iterator<Item = &'a str>,
        numbers: &mut HashMap<&'a str, u32>,
    ) -> Vec<&'a str> {
        if self.generation != generation {
            *self = Self { generation, ..Self::default() };
        }
        let mut missing: HashMap<&str, ()> = HashMap::new();
        for name in names {
            if numbers.contains_key(name) || missing.contains_key(name) {
                continue;
            }
            match self.number(key(name)) {
                Some(number) => drop(numbers.insert(name, number)),
                None => drop(missing.insert(name, ())),
            }
        }
        missing.into_keys().collect()
    }

    fn number(&mut self, key: [u64; 2]) -> Option<u32> {
        if let Some(number) = self.young.get(&key) {
            return Some(*number);
        }
        let number = self.old.remove(&key)?;
        self.enter(key, number);
        Some(number)
    }

    fn learn(&mut self, generation: i64, found: &HashMap<Box<str>, u32>) {
        if self.generation == generation {
            found.iter().for_each(|(name, number)| self.enter(key(name), *number));
        }
    }

    fn enter(&mut self, key: [u64; 2], number: u32) {
        if self.young.len() >= Self::NAMES_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, number);
    }
}

fn key(name: &str) -> [u64; 2] {
    let hash = xxh3_128(name.as_bytes());
    [hash as u64, (hash >> 64) as u64]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recalled<'a>(known: &mut Known, generation: i64, names: &[&'a str]) -> Vec<&'a str> {
        let mut missing = known.recall(generation, names.iter().copied(), &mut HashMap::new());
        missing.sort_unstable();
        missing
    }

    #[test]
    fn a_name_is_asked_for_once_and_not_believed_in_another_generation() {
        let mut known = Known::default();
        assert_eq!(recalled(&mut known, 1, &["b", "a", "b"]), ["a", "b"]);
        known.learn(1, &HashMap::from([("a".into(), 7)]));
        assert_eq!(recalled(&mut known, 1, &["a", "b"]), ["b"]);
        assert_eq!(recalled(&mut known, 2, &["a"]), ["a"]);
        known.learn(1, &HashMap::from([("a".into(), 7)]));
        assert_eq!(recalled(&mut known, 2, &["a"]), ["a"], "it was learnt in another life");
    }

    #[test]
    fn memory_is_bounded_and_what_is_used_stays() {
        let mut known = Known::default();
        known.learn(0, &HashMap::from([("used".into(), 1)]));
        for number in 0..3 * Known::NAMES_MAX as u32 {
            known.enter([u64::from(number), 0], number);
            if number % 1_000 == 0 {
                assert_eq!(known.number(key("used")), Some(1));
            }
        }
        assert!(known.young.len() <= Known::NAMES_MAX && known.old.len() <= Known::NAMES_MAX);
    }
}
