//! The newest messages of one topic, shared by all who listen: each keeps only its place in it.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::cursor::{Cursor, Incarnation, Positions, encode};
use super::message::Message;
use super::stream::{Facets, Stream};

/// What an entry takes besides its message.
const ENTRY_OVERHEAD_BYTES: usize = 256;

/// One record of the topic, ready to be sent.
#[derive(Debug)]
pub struct Entry {
    pub partition: usize,
    pub offset: i64,
    /// Where a socket stands that has been sent everything in the ring up to here.
    pub at: Positions,
    pub facets: Facets,
    /// Its cursor is that of `at`.
    pub message: Message,
}

/// One stretch of reading one life of a topic.
#[derive(Debug)]
pub struct Ring {
    pub stream: Stream,
    pub incarnation: Incarnation,
    /// Where the log ended when the reading began: what lies before is no news.
    pub began_at: Positions,
    bytes_max: usize,
    shelf: RwLock<Shelf>,
    /// The place behind the newest entry.
    head: watch::Sender<u64>,
    /// Cancelled when nothing more will come: the topic is read anew, into another ring.
    pub ended: CancellationToken,
}

#[derive(Debug)]
struct Shelf {
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
    /// The place of the oldest entry.
    first: u64,
    /// Positions before the oldest entry.
    oldest: Positions,
    /// Positions behind the newest one.
    newest: Positions,
}

/// The entries one has to read next are no longer there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overrun {
    pub missed: u64,
}

impl Ring {
    /// An empty one, whose first entry will be the first record from `from` on.
    pub fn new(
        stream: Stream,
        incarnation: Incarnation,
        from: Positions,
        began_at: Positions,
        bytes_max: usize,
    ) -> Self {
        let shelf = Shelf {
            entries: VecDeque::new(),
            bytes: 0,
            first: 0,
            oldest: from.clone(),
            newest: from,
        };
        let (shelf, head) = (RwLock::new(shelf), watch::Sender::new(0));
        let ended = CancellationToken::new();
        Self { stream, incarnation, began_at, bytes_max, shelf, head, ended }
    }

    /// Puts the next entries in, in the order they were read; the oldest make room for them.
    pub fn push(&self, entries: Vec<Entry>) {
        let mut shelf = self.shelf.write().unwrap_or_else(PoisonError::into_inner);
        for entry in entries {
            shelf.newest = entry.at.clone();
            shelf.bytes += entry.size();
            shelf.entries.push_back(Arc::new(entry));
        }
        while shelf.bytes > self.bytes_max
            && let Some(oldest) = shelf.entries.pop_front()
        {
            shelf.bytes -= oldest.size();
            shelf.first += 1;
            shelf.oldest = oldest.at.clone();
        }
        let head = shelf.first + shelf.entries.len() as u64;
        drop(shelf);
        self.head.send_replace(head);
    }

    /// At most so many entries from a place on.
    pub fn read(&self, from: u64, count_max: usize) -> Result<Vec<Arc<Entry>>, Overrun> {
        let shelf = self.shelf();
        let Some(skipped) = from.checked_sub(shelf.first) else {
            return Err(Overrun { missed: shelf.first - from });
        };
        Ok(shelf.entries.iter().skip(skipped as usize).take(count_max).cloned().collect())
    }

    /// The oldest place, and the positions before it.
    pub fn oldest(&self) -> (u64, Positions) {
        let shelf = self.shelf();
        (shelf.first, shelf.oldest.clone())
    }

    /// The place behind the newest entry, and the positions there.
    pub fn newest(&self) -> (u64, Positions) {
        let shelf = self.shelf();
        (shelf.first + shelf.entries.len() as u64, shelf.newest.clone())
    }

    /// Tells of new entries.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    pub fn cursor(&self, at: &[i64]) -> String {
        encode(self.stream, self.incarnation, at)
    }

    /// Whether a cursor is of this life of this topic.
    pub fn is_of(&self, cursor: &Cursor) -> bool {
        cursor.incarnation == self.incarnation && cursor.at.len() <= self.began_at.len()
    }

    fn shelf(&self) -> std::sync::RwLockReadGuard<'_, Shelf> {
        self.shelf.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn size(&self) -> usize {
        ENTRY_OVERHEAD_BYTES + self.message.size() + size_of_val(&*self.at)
    }
}
