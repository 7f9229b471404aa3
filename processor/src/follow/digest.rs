//! What counters, rollups and statistics take of a range of judged offsets: each name once, and the events by
//! places of names.

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use deadpool_postgres::Transaction;
use hashbrown::HashTable;
use tokio::sync::Semaphore;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::read_back::{self, Stored};
use super::{Memory, Offer, Share};
use crate::batch::{Deed, Judged};

/// Ends each column of a name. What is stored has none in it: Postgres takes no such text.
pub const END: char = '\0';

/// Drawn by each process: nobody outside can choose names whose hashes agree.
pub static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(END));

#[derive(Debug)]
pub struct Digest {
    pub range: Range<i64>,
    /// The generation the commit was made under.
    pub generation: i64,
    pub users: Names,
    pub objects: Names,
    pub kinds: Names,
    pub event_types: Names,
    pub events: Vec<Coded>,
}

/// An event with its names as their places in a digest, or as their numbers in Postgres.
#[derive(Debug, Clone, Copy)]
pub struct Coded {
    pub offset: i64,
    pub at_us: i64,
    pub user: u32,
    pub kind: u32,
    pub event_type: u32,
    /// 0 for none.
    pub object: u32,
}

impl Digest {
    pub fn of(judged: &Judged) -> Self {
        let mut digest = Self::over(judged.from..judged.to, judged.generation);
        digest.events.reserve_exact(judged.stored.len());
        judged.stored.iter().for_each(|row| digest.add(&row.deed()));
        digest.complete()
    }

    fn over(range: Range<i64>, generation: i64) -> Self {
        let names = Names::default;
        Self {
            range,
            generation,
            users: names(),
            objects: names(),
            kinds: names(),
            event_types: names(),
            events: Vec::new(),
        }
    }

    fn add(&mut self, deed: &Deed<'_>) {
        let object_type = deed.object.map_or("", |it| it.0);
        let has_object = if deed.object.is_some() { "true" } else { "false" };
        let kind = [deed.event_type, deed.event_source, object_type, has_object];
        self.events.push(Coded {
            offset: deed.offset,
            at_us: deed.occurred_at.as_microsecond(),
            user: self.users.place(&[deed.user_id]),
            kind: self.kinds.place(&kind),
            event_type: self.event_types.place(&[deed.event_type]),
            object: deed.object.map_or(0, |(kind, id)| self.objects.place(&[kind, id])),
        });
    }

    /// It may wait for long: what only adding needs goes.
    fn complete(mut self) -> Self {
        for names in [&mut self.users, &mut self.objects, &mut self.kinds, &mut self.event_types] {
            names.places = HashTable::new();
        }
        self
    }
}

impl Share for Arc<Digest> {
    const READ_BACK_STEP: i64 = 50_000;

    fn of(offer: &Offer) -> Self {
        offer.digest.clone()
    }

    async fn read(on: &Transaction<'_>, of: &Stored) -> Result<Self, tokio_postgres::Error> {
        let mut digest = Digest::over(of.range.clone(), of.generation);
        read_back::deeds(on, of, |deed| digest.add(deed)).await?;
        Ok(Arc::new(digest.complete()))
    }

    fn range(&self) -> Range<i64> {
        self.range.clone()
    }

    fn events(&self) -> usize {
        self.events.len()
    }

    fn size(&self) -> usize {
        let names = [&self.users, &self.objects, &self.kinds, &self.event_types];
        let names: usize = names.iter().map(|it| it.size()).sum();
        // Two followers hold it, each charged with half.
        (names + self.events.len() * size_of::<Coded>()) / 2
    }

    fn room(memory: &Memory) -> &Arc<Semaphore> {
        &memory.digests
    }
}

/// Names in the order in which they were met first, from place 1 on: one text, and where each ends in it.
#[derive(Debug)]
pub struct Names {
    text: String,
    /// That of place 0, which no name has, comes first.
    ends: Vec<u32>,
    places: HashTable<u32>,
}

impl Default for Names {
    fn default() -> Self {
        Self { text: String::new(), ends: vec![0], places: HashTable::new() }
    }
}

impl Names {
    fn place(&mut self, columns: &[&str]) -> u32 {
        let Self { text, ends, places } = self;
        let begins = text.len();
        for column in columns {
            text.push_str(column);
            text.push(END);
        }
        let hash = |name: &str| xxh3_64_with_seed(name.as_bytes(), *SEED);
        let new = hash(&text[begins..]);
        let known = places.find(new, |place| name(text, ends, *place) == &text[begins..]).copied();
        if let Some(place) = known {
            text.truncate(begins);
            return place;
        }
        let place = u32::try_from(ends.len()).expect("a range holds far fewer names");
        ends.push(u32::try_from(text.len()).expect("the names of a range take far less"));
        places.insert_unique(new, place, |it| hash(name(text, ends, *it)));
        place
    }

    fn name(&self, place: u32) -> &str {
        name(&self.text, &self.ends, place)
    }

    /// The columns of the name at a place.
    pub fn columns<const N: usize>(&self, place: u32) -> [&str; N] {
        let mut columns = self.name(place).split_terminator(END);
        std::array::from_fn(|_| columns.next().unwrap_or_default())
    }

    /// In the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (1..).take(self.ends.len() - 1).map(|place| self.name(place))
    }

    fn size(&self) -> usize {
        self.text.len() + 4 * self.ends.len()
    }
}

fn name<'a>(text: &'a str, ends: &[u32], place: u32) -> &'a str {
    let place = place as usize;
    &text[ends[place - 1] as usize..ends[place] as usize]
}

#[cfg(test)]
pub mod tests {
    use jiff::Timestamp;

    use super::*;

    /// Deeds of one user: offsets, and on what.
    pub fn digest(range: Range<i64>, deeds: &[(i64, Option<(&str, &str)>)]) -> Digest {
        let mut digest = Digest::over(range, 1);
        for (offset, object) in deeds {
            digest.add(&Deed {
                offset: *offset,
                event_type: "like",
                event_source: "web",
                user_id: "ann",
                object: *object,
                occurred_at: Timestamp::UNIX_EPOCH,
            });
        }
        digest.complete()
    }

    #[test]
    fn names_are_kept_once_and_no_object_is_not_an_empty_type() {
        let deeds = [(0, Some(("post", "ü:1"))), (1, Some(("", ""))), (2, None)];
        let digest = digest(0..3, &deeds);
        assert_eq!(digest.users.iter().collect::<Vec<_>>(), ["ann\0"]);
        assert_eq!(digest.objects.iter().collect::<Vec<_>>(), ["post\0ü:1\0", "\0\0"]);
        let kinds = ["like\0web\0post\0true\0", "like\0web\0\0true\0", "like\0web\0\0false\0"];
        assert_eq!(digest.kinds.iter().collect::<Vec<_>>(), kinds);
        let [first, second, third] = digest.events[..] else { panic!("three events") };
        assert_eq!([first.object, second.object, third.object], [1, 2, 0]);
        assert_eq!(digest.objects.columns(first.object), ["post", "ü:1"]);
        assert_eq!(digest.objects.columns(second.object), ["", ""]);
        assert_eq!([first.user, third.kind, third.event_type], [1, 3, 1]);
    }
}
