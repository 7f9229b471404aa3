//! What statistics take of a range of judged offsets: each name once, and the events by places of names.

use std::ops::Range;
use std::sync::Arc;

use deadpool_postgres::Transaction;
use hashbrown::HashTable;
use tokio::sync::Semaphore;
use xxhash_rust::xxh3::xxh3_64;

use crate::batch::{Deed, Judged};
use crate::follow::read_back::{self, Stored};
use crate::follow::{Memory, Offer, Share};

/// Ends each column of a name. What is stored has none in it: Postgres takes no such text.
pub const END: char = '\0';

#[derive(Debug)]
pub struct Digest {
    range: Range<i64>,
    users: Names,
    objects: Names,
    kinds: Names,
    events: Vec<Placed>,
}

/// An event with the places of its names.
#[derive(Debug)]
struct Placed {
    at_us: i64,
    user: u32,
    kind: u32,
    object: Option<u32>,
}

/// An event with its names.
pub struct Named<'a> {
    pub at_us: i64,
    pub user: &'a str,
    pub kind: &'a str,
    pub object: Option<&'a str>,
}

impl Digest {
    pub fn of(judged: &Judged) -> Self {
        let mut digest = Self::over(judged.from..judged.to);
        judged.stored.iter().for_each(|row| digest.add(&row.deed()));
        digest
    }

    fn over(range: Range<i64>) -> Self {
        let names = Names::default;
        Self { range, users: names(), objects: names(), kinds: names(), events: Vec::new() }
    }

    fn add(&mut self, deed: &Deed<'_>) {
        let object_type = deed.object.map_or("", |it| it.0);
        let has_object = if deed.object.is_some() { "true" } else { "false" };
        let kind = [deed.event_type, deed.event_source, object_type, has_object];
        self.events.push(Placed {
            at_us: deed.occurred_at.as_microsecond(),
            user: self.users.place(&[deed.user_id]),
            kind: self.kinds.place(&kind),
            object: deed.object.map(|(kind, id)| self.objects.place(&[kind, id])),
        });
    }

    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.users.iter()
    }

    pub fn objects(&self) -> impl Iterator<Item = &str> {
        self.objects.iter()
    }

    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.kinds.iter()
    }

    pub fn named(&self) -> impl Iterator<Item = Named<'_>> {
        self.events.iter().map(|it| Named {
            at_us: it.at_us,
            user: self.users.name(it.user),
            kind: self.kinds.name(it.kind),
            object: it.object.map(|place| self.objects.name(place)),
        })
    }
}

impl Share for Arc<Digest> {
    const READ_BACK_STEP: i64 = 50_000;

    fn of(offer: &Offer) -> Self {
        offer.digest.clone()
    }

    async fn read(on: &Transaction<'_>, of: &Stored) -> Result<Self, tokio_postgres::Error> {
        let mut digest = Digest::over(of.range.clone());
        read_back::deeds(on, of, |deed| digest.add(deed)).await?;
        Ok(Arc::new(digest))
    }

    fn range(&self) -> Range<i64> {
        self.range.clone()
    }

    fn events(&self) -> usize {
        self.events.len()
    }

    fn size(&self) -> usize {
        let names = [&self.users, &self.objects, &self.kinds];
        let names: usize = names.iter().map(|it| it.size()).sum();
        names + self.events.len() * size_of::<Placed>()
    }

    fn room(memory: &Memory) -> &Arc<Semaphore> {
        &memory.sums
    }
}

/// Names in the order in which they were met first: one text, and where each ends in it.
#[derive(Debug, Default)]
struct Names {
    text: String,
    ends: Vec<u32>,
    places: HashTable<u32>,
}

impl Names {
    fn place(&mut self, columns: &[&str]) -> u32 {
        let Self { text, ends, places } = self;
        let begins = text.len();
        for column in columns {
            text.push_str(column);
            text.push(END);
        }
        let hash = xxh3_64(&text.as_bytes()[begins..]);
        let known = places.find(hash, |place| name(text, ends, *place) == &text[begins..]).copied();
        if let Some(place) = known {
            text.truncate(begins);
            return place;
        }
        let place = u32::try_from(ends.len()).expect("a range holds far fewer names");
        ends.push(u32::try_from(text.len()).expect("the names of a range take far less"));
        places.insert_unique(hash, place, |it| xxh3_64(name(text, ends, *it).as_bytes()));
        place
    }

    fn name(&self, place: u32) -> &str {
        name(&self.text, &self.ends, place)
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        (0..).take(self.ends.len()).map(|place| self.name(place))
    }

    fn size(&self) -> usize {
        self.text.len() + 12 * self.ends.len()
    }
}

fn name<'a>(text: &'a str, ends: &[u32], place: u32) -> &'a str {
    let place = place as usize;
    let begins = place.checked_sub(1).map_or(0, |before| ends[before]);
    &text[begins as usize..ends[place] as usize]
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn names_are_kept_once_and_no_object_is_not_an_empty_type() {
        let mut digest = Digest::over(0..3);
        for (offset, object) in [(0, Some(("post", "1"))), (1, Some(("", ""))), (2, None)] {
            let deed = Deed {
                offset,
                event_type: "like",
                event_source: "web",
                user_id: "ann",
                object,
                occurred_at: Timestamp::UNIX_EPOCH,
            };
            digest.add(&deed);
        }
        assert_eq!(digest.users().collect::<Vec<_>>(), ["ann\0"]);
        assert_eq!(digest.objects().collect::<Vec<_>>(), ["post\x001\0", "\0\0"]);
        let kinds = ["like\0web\0post\0true\0", "like\0web\0\0true\0", "like\0web\0\0false\0"];
        assert_eq!(digest.kinds().collect::<Vec<_>>(), kinds);
        let last = digest.named().last().unwrap();
        assert_eq!((last.user, last.kind, last.object), ("ann\0", kinds[2], None));
    }
}
