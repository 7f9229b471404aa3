//! Numbers for names: in memory for those that were met lately, in Postgres for all.

use std::fmt::Write as _;
use std::iter;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use common::failpoint::kill_point;
use deadpool_postgres::{Object, Transaction};
use hashbrown::{HashMap, HashSet};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::FollowError;
use super::digest::{Coded, Digest, END, Names, SEED};
use crate::copy::copy;
use crate::generation::Generation;

/// The dictionaries of this installation, shared by all sources of this process.
pub struct Dictionaries {
    users: Dictionary,
    objects: Dictionary,
    kinds: Dictionary,
    event_types: Dictionary,
}

impl Dictionaries {
    pub fn new(generation: &Generation) -> Self {
        let of = |table, columns, find| Dictionary {
            table,
            columns,
            find,
            generation: generation.clone(),
            known: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        };
        Self {
            users: of("users", &["id"], include_str!("find_users.sql")),
            objects: of("objects", &["object_type", "object_id"], include_str!("find_objects.sql")),
            kinds: of(
                "action_kinds",
                &["event_type", "source", "object_type", "has_object"],
                include_str!("find_kinds.sql"),
            ),
            event_types: of("event_types", &["event_type"], include_str!("find_event_types.sql")),
        }
    }

    /// The events of digests with the numbers of their names, which are committed then.
    pub async fn numbered(
        &self,
        client: &mut Object,
        digests: &[Arc<Digest>],
    ) -> Result<Vec<Coded>, FollowError> {
        let names = |of: fn(&Digest) -> &Names| digests.iter().map(|it| of(it)).collect::<Vec<_>>();
        let users = self.users.numbers(client, &names(|it| &it.users)).await?;
        let objects = self.objects.numbers(client, &names(|it| &it.objects)).await?;
        let kinds = self.kinds.numbers(client, &names(|it| &it.kinds)).await?;
        let event_types = self.event_types.numbers(client, &names(|it| &it.event_types)).await?;
        let mut events = Vec::with_capacity(digests.iter().map(|it| it.events.len()).sum());
        for (at, digest) in digests.iter().enumerate() {
            events.extend(digest.events.iter().map(|it| Coded {
                user: users[at][it.user as usize],
                object: objects[at][it.object as usize],
                kind: kinds[at][it.kind as usize],
                event_type: event_types[at][it.event_type as usize],
                ..*it
            }));
        }
        Ok(events)
    }
}

/// Names of some columns and their numbers; a number never changes its owner.
struct Dictionary {
    table: &'static str,
    columns: &'static [&'static str],
    find: &'static str,
    generation: Generation,
    known: Mutex<Known>,
    /// Who asks Postgres: sources meet the same new names at the same time, and what one learns the others
    /// need not ask.
    asking: tokio::sync::Mutex<()>,
}

impl Dictionary {
    /// The number of each name by its place, of which the first, 0, is that of no name. A name that has no
    /// number yet gets one, for good.
    async fn numbers(
        &self,
        client: &mut Object,
        names: &[&Names],
    ) -> Result<Vec<Vec<u32>>, FollowError> {
        let generation = self.generation.current();
        let (mut numbers, mut missing) = self.known().recall(generation, names);
        if missing.is_empty() {
            return Ok(numbers);
        }
        let _turn = self.asking.lock().await;
        let mut found = self.known().learnt_meanwhile(generation, &mut missing);
        if !missing.is_empty() {
            // Sorted, they are neighbours in the index.
            let mut wanted: Vec<Name<'_>> = missing.into_iter().collect();
            wanted.sort_unstable_by_key(|(_, name)| *name);
            let entries = self.number(client, &wanted).await?;
            if self.generation.current() == generation {
                self.known().learn(generation, &entries);
            }
            found.extend(entries);
        }
        for (names, numbers) in names.iter().zip(&mut numbers) {
            let unknown = names.iter().zip(&mut numbers[1..]).filter(|(_, it)| **it == 0);
            unknown.for_each(|(name, number)| *number = found[&key(name)]);
        }
        Ok(numbers)
    }

    /// One process at a time: what has no number then is new, and COPY takes it for three quarters of what an
    /// insert costs (measured).
    async fn number(
        &self,
        client: &mut Object,
        wanted: &[Name<'_>],
    ) -> Result<Vec<(Key, u32)>, FollowError> {
        let transaction = client.transaction().await?;
        let lock = transaction.prepare_cached(include_str!("lock_names.sql")).await?;
        transaction.execute(&lock, &[&self.table]).await?;
        let mut entries = self.find(&transaction, wanted).await?;
        let found: HashSet<Key> = entries.iter().map(|it| it.0).collect();
        let new: Vec<_> = wanted.iter().copied().filter(|it| !found.contains(&it.0)).collect();
        if !new.is_empty() {
            entries.extend(self.enter(&transaction, &new).await?);
            kill_point("numbering_before_commit");
        }
        transaction.commit().await?;
        Ok(entries)
    }

    async fn find(
        &self,
        on: &Transaction<'_>,
        wanted: &[Name<'_>],
    ) -> Result<Vec<(Key, u32)>, FollowError> {
        let mut columns = vec![Vec::with_capacity(wanted.len()); self.columns.len()];
        for (_, name) in wanted {
            let parts = name.split_terminator(END);
            columns.iter_mut().zip(parts).for_each(|(column, part)| column.push(part));
        }
        let parameters: Vec<&(dyn ToSql + Sync)> =
            columns.iter().map(|it| it as &(dyn ToSql + Sync)).collect();
        let statement = on.prepare_cached(self.find).await?;
        let rows = on.query(&statement, &parameters).await?;
        let mut scratch = String::new();
        Ok(rows.iter().map(|row| self.entry(row, &mut scratch)).collect())
    }

    async fn enter(
        &self,
        on: &Transaction<'_>,
        new: &[Name<'_>],
    ) -> Result<Vec<(Key, u32)>, FollowError> {
        let draw = on.prepare_cached(include_str!("draw_numbers.sql")).await?;
        let count = new.len() as i32;
        let last: i32 = on.query_one(&draw, &[&self.table, &count]).await?.get(0);
        let numbers = last - count + 1..=last;
        let mut rows = String::new();
        for ((_, name), number) in new.iter().zip(numbers.clone()) {
            write_row(number, name, &mut rows);
        }
        let statement = format!("copy {} (no, {}) from stdin", self.table, self.columns.join(", "));
        copy(on, &statement, iter::once(Bytes::from(rows))).await?;
        Ok(new.iter().zip(numbers).map(|((key, _), it)| (*key, it.cast_unsigned())).collect())
    }

    fn entry(&self, row: &Row, name: &mut String) -> (Key, u32) {
        name.clear();
        for column in 1..=self.columns.len() {
            name.push_str(row.get(column));
            name.push(END);
        }
        (key(name), row.get::<_, i32>(0).cast_unsigned())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Numbers of names met lately, by the names' hashes: two names would have to agree in 128 bits to be
/// taken for each other, as two event ids would.
#[derive(Default)]
struct Known {
    young: HashMap<Key, u32>,
    /// What was young before: used again, it is young again; else it goes with the next change.
    old: HashMap<Key, u32>,
    /// What Postgres said in another life does not count.
    generation: i64,
}

impl Known {
    /// Ten MiB at most for each of the two.
    const NAMES_MAX: usize = 1 << 18;

    /// What is known by place, else 0, and the names that are not known.
    fn recall<'a>(
        &mut self,
        generation: i64,
        names: &[&'a Names],
    ) -> (Vec<Vec<u32>>, HashMap<Key, &'a str>) {
        if self.generation != generation {
            *self = Self { generation, ..Self::default() };
        }
        let mut missing = HashMap::new();
        let mut number = |name| {
            let key = key(name);
            self.number(key).unwrap_or_else(|| {
                missing.insert(key, name);
                0
            })
        };
        let numbers =
            names.iter().map(|it| iter::once(0).chain(it.iter().map(&mut number)).collect());
        (numbers.collect(), missing)
    }

    /// Takes out of what is missing what is known by now.
    fn learnt_meanwhile(
        &mut self,
        generation: i64,
        missing: &mut HashMap<Key, &str>,
    ) -> HashMap<Key, u32> {
        if self.generation != generation {
            return HashMap::new();
        }
        let number = |key: &Key| Some((*key, self.number(*key)?));
        let found: HashMap<_, _> = missing.keys().filter_map(number).collect();
        missing.retain(|key, _| !found.contains_key(key));
        found
    }

    fn number(&mut self, key: Key) -> Option<u32> {
        if let Some(number) = self.young.get(&key) {
            return Some(*number);
        }
        let number = self.old.remove(&key)?;
        self.enter(key, number);
        Some(number)
    }

    fn learn(&mut self, generation: i64, entries: &[(Key, u32)]) {
        if self.generation == generation {
            entries.iter().for_each(|(key, number)| self.enter(*key, *number));
        }
    }

    fn enter(&mut self, key: Key, number: u32) {
        if self.young.len() >= Self::NAMES_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, number);
    }
}

/// A row in the text format of COPY: see "Text Format" of that command's documentation.
fn write_row(number: i32, name: &str, out: &mut String) {
    write!(out, "{number}").expect("a String takes all");
    for part in name.split_terminator(END) {
        out.push('\t');
        for character in part.chars() {
            match character {
                '\\' => out.push_str("\\\\"),
                '\t' => out.push_str("\\t"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                other => out.push(other),
            }
        }
    }
    out.push('\n');
}

/// With its key.
type Name<'a> = (Key, &'a str);

/// Of a name, half by half: a `u128` would take more room in a table.
type Key = [u64; 2];

fn key(name: &str) -> Key {
    let hash = xxh3_128_with_seed(name.as_bytes(), *SEED);
    [hash as u64, (hash >> 64) as u64]
}

#[cfg(test)]
mod tests {
    use super::super::digest::tests::digest;
    use super::*;

    #[test]
    fn a_name_is_asked_for_once_and_not_believed_in_another_generation() {
        let post = |id| Some(("post", id));
        let digests =
            [digest(0..2, &[(0, post("b")), (1, post("a"))]), digest(2..3, &[(2, post("b"))])];
        let names: Vec<_> = digests.iter().map(|it| &it.objects).collect();
        let (a, b) = ("post\0a\0", "post\0b\0");
        let mut known = Known::default();
        let recalled = |known: &mut Known, generation| {
            let (numbers, missing) = known.recall(generation, &names);
            let mut missing: Vec<_> = missing.into_values().collect();
            missing.sort_unstable();
            (numbers, missing)
        };
        assert_eq!(recalled(&mut known, 1), (vec![vec![0, 0, 0], vec![0, 0]], vec![a, b]));
        let (_, mut missing) = known.recall(1, &names);
        known.learn(1, &[(key(b), 7)]);
        assert_eq!(known.learnt_meanwhile(1, &mut missing), HashMap::from([(key(b), 7)]));
        assert_eq!(missing.into_values().collect::<Vec<_>>(), [a]);
        assert_eq!(recalled(&mut known, 1), (vec![vec![0, 7, 0], vec![0, 7]], vec![a]));
        assert_eq!(recalled(&mut known, 2).1, [a, b]);
        known.learn(1, &[(key(b), 7)]);
        assert_eq!(recalled(&mut known, 2).1, [a, b], "it was learnt in another life");
    }

    #[test]
    fn a_row_for_copy_hides_what_would_end_it() {
        let mut rows = String::new();
        write_row(7, "a\tb\\N\0\0\\.\r\n\0", &mut rows);
        assert_eq!(rows, "7\ta\\tb\\\\N\t\t\\\\.\\r\\n\n");
    }

    #[test]
    fn memory_is_bounded_and_what_is_used_stays() {
        let mut known = Known::default();
        known.learn(0, &[(key("used"), 1)]);
        for number in 0..3 * Known::NAMES_MAX as u32 {
            known.enter([u64::from(number), 0], number);
            if number % 1_000 == 0 {
                assert_eq!(known.number(key("used")), Some(1));
            }
        }
        assert!(known.young.len() <= Known::NAMES_MAX && known.old.len() <= Known::NAMES_MAX);
    }
}
