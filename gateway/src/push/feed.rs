//! What one socket is sent, in order: first what it missed, from Kafka; then what comes, from the ring.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use common::kafka::{KafkaError, Record, is_offset_reset};
use tokio::sync::watch;
use tracing::debug;

use super::cursor::{Cursor, Positions};
use super::filter::Filter;
use super::hub::{CatchUp, Hub, Listening};
use super::message::{Control, Expiry, Message};
use super::ring::{Entry, Overrun, Ring};
use super::stream::Stream;
use crate::http::ApiError;

/// Messages that are handed to a socket at once.
const TURN: usize = 64;

/// A pause before a failed catch-up begins again where it was.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// One socket's way through a stream.
pub struct Feed {
    hub: Arc<Hub>,
    _listening: Listening,
    filter: Filter,
    ring: Arc<Ring>,
    news: watch::Receiver<u64>,
    /// Everything before was sent on this socket or does not concern it.
    at: Positions,
    place: Place,
    /// What is to be said before anything else.
    controls: VecDeque<Message>,
}

enum Place {
    /// Something lies between `at` and the ring; who is to read it, once it is its turn.
    Behind(Option<Box<CatchUp>>),
    /// The next entry, and whether `at` is further than the ring there: what comes was in part sent
    /// before, and cursors are the socket's own.
    InRing { next: u64, ahead: bool },
}

/// What is to be done next on a socket.
#[derive(Debug)]
pub enum Turn {
    Send(Vec<Message>),
    /// Say this, then end: the reader is too slow.
    Lagged(Message),
    /// Kafka cannot be read for the moment; who connects again goes on where this one ended.
    Away,
}

impl Feed {
    /// Begins behind the cursor, or now.
    pub async fn open(
        hub: &Arc<Hub>,
        filter: Filter,
        cursor: Option<Cursor>,
    ) -> Result<Self, ApiError> {
        let listening = hub.listen();
        let ring = hub.ring().await.ok_or(ApiError::StreamUnavailable)?;
        let mut feed = Self {
            hub: hub.clone(),
            _listening: listening,
            filter,
            news: ring.watch(),
            at: ring.newest().1,
            place: Place::Behind(None),
            controls: VecDeque::new(),
            ring,
        };
        match cursor {
            Some(cursor) => feed.resume(feed.ring.clone(), &cursor).await.map_err(|error| {
                debug!("a cursor could not be looked up: {error:#}");
                ApiError::StreamUnavailable
            })?,
            None => feed.begin_now(),
        }
        Ok(feed)
    }

    pub fn stream(&self) -> Stream {
        self.ring.stream
    }

    /// What the socket would have to send to resume here.
    pub fn cursor(&self) -> String {
        self.ring.cursor(&self.at)
    }

    /// Waits for what is next. Where nothing of it passes, there is nothing to send.
    pub async fn next(&mut self) -> Turn {
        if !self.controls.is_empty() {
            return Turn::Send(self.controls.drain(..).collect());
        }
        loop {
            let Place::InRing { next, ahead } = self.place else { return self.catch_up().await };
            match self.ring.read(next, TURN) {
                Err(Overrun { missed }) => return Turn::Lagged(self.lagged(missed)),
                Ok(entries) if !entries.is_empty() => {
                    return Turn::Send(self.pass(&entries, next, ahead));
                }
                Ok(_none) if self.wait().await => {}
                Ok(_none) => return self.change_rings().await,
            }
        }
    }

    fn lagged(&self, missed: u64) -> Message {
        Message::control(&Control::Lagged { missed }, &self.cursor())
    }

    /// False when nothing more will come into this ring.
    async fn wait(&mut self) -> bool {
        tokio::select! {
            changed = self.news.changed() => changed.is_ok(),
            () = self.ring.ended.cancelled() => false,
        }
    }

    /// Goes on in the ring that came after this one.
    async fn change_rings(&mut self) -> Turn {
        let cursor = Cursor {
            stream: self.ring.stream,
            incarnation: self.ring.incarnation,
            at: self.at.clone(),
        };
        let Some(ring) = self.hub.ring().await else { return Turn::Away };
        match self.resume(ring, &cursor).await {
            Ok(()) => Turn::Send(Vec::new()),
            Err(error) => {
                debug!("a socket could not go on: {error:#}");
                Turn::Away
            }
        }
    }

    fn begin_now(&mut self) {
        let (next, newest) = self.ring.newest();
        // A ring that was opened a moment ago still reads what lies before now.
        self.at = further(&newest, &self.ring.began_at);
        self.place = Place::InRing { next, ahead: self.at != newest };
    }

    /// Finds out where a cursor is: in a ring, before it, or nowhere any more. Nothing has changed until it is
    /// found: a ping may come in between, and what is waited for is then begun again.
    async fn resume(&mut self, ring: Arc<Ring>, cursor: &Cursor) -> anyhow::Result<()> {
        let partitions = ring.began_at.len();
        let (_, oldest) = ring.oldest();
        let (_, newest) = ring.newest();
        // Partitions that were added after the cursor are read from their beginning.
        let added = std::iter::repeat_n(0, partitions.saturating_sub(cursor.at.len()));
        let mut at: Vec<i64> = cursor.at.iter().copied().chain(added).collect();
        let mut expiry = (!ring.is_of(cursor)).then_some(Expiry::Recreated);
        let is_in_ring = reaches(&at, &oldest) && reaches(&newest, &at);
        if expiry.is_some() || !is_in_ring {
            let marks = self.hub.watermarks(partitions).await?;
            // Of a log that has lost its tail, other records may lie under the same offsets.
            if at.iter().zip(&marks).any(|(at, mark)| *at > mark.high) {
                expiry = Some(Expiry::Recreated);
            }
            if expiry.is_some() {
                at = marks.iter().map(|mark| mark.low).collect();
            }
            for (known, (at, mark)) in at.iter_mut().zip(&marks).enumerate() {
                if *at < mark.low && known < cursor.at.len() {
                    expiry = Some(Expiry::Retention);
                }
                *at = (*at).max(mark.low);
            }
        }
        self.news = ring.watch();
        self.ring = ring;
        self.at = at.into();
        self.place = Place::Behind(None);
        self.enter_ring();
        if let Some(reason) = expiry {
            let control = Message::control(&Control::expired(reason), &self.cursor());
            self.controls.push_back(control);
        }
        Ok(())
    }

    /// True when nothing lies between `at` and the ring any more.
    fn enter_ring(&mut self) -> bool {
        let (next, oldest) = self.ring.oldest();
        let entered = reaches(&self.at, &oldest);
        if entered {
            self.place = Place::InRing { next, ahead: self.at != oldest };
        }
        entered
    }

    /// The next piece of what lies before the ring, from Kafka.
    async fn catch_up(&mut self) -> Turn {
        if self.enter_ring() {
            return Turn::Send(Vec::new());
        }
        match self.read_back().await {
            Ok(messages) => Turn::Send(messages),
            Err(error) if is_offset_reset(&error) => self.change_rings().await,
            Err(error) => {
                debug!(%error, "a catch-up begins again where it was");
                self.place = Place::Behind(None);
                tokio::time::sleep(RETRY_PAUSE).await;
                Turn::Send(Vec::new())
            }
        }
    }

    async fn read_back(&mut self) -> Result<Vec<Message>, KafkaError> {
        let reading = match std::mem::replace(&mut self.place, Place::Behind(None)) {
            Place::Behind(reading) => reading.filter(|it| !it.must_yield()),
            Place::InRing { .. } => None,
        };
        let mut reading = match reading {
            Some(reading) => reading,
            None => Box::new(self.hub.catch_up(&self.at).await?),
        };
        let records = reading.reader.read().await?;
        let messages = self.show(&records);
        self.at = reading.reader.next().into();
        self.place = Place::Behind(Some(reading));
        Ok(messages)
    }

    /// What of these records is to be sent, each under the cursor that resumes behind it.
    fn show(&self, records: &[(usize, Record)]) -> Vec<Message> {
        let mut at = self.at.to_vec();
        let mut messages = Vec::new();
        for (partition, record) in records {
            at[*partition] = record.offset + 1;
            if let Some(shown) = self.ring.stream.show(*partition, record)
                && self.filter.passes(&shown.facets)
            {
                messages.push(Message::new(&shown.open_json, &self.ring.cursor(&at)));
            }
        }
        messages
    }

    /// What of these entries is to be sent.
    fn pass(&mut self, entries: &[Arc<Entry>], first: u64, mut ahead: bool) -> Vec<Message> {
        let mut messages = Vec::new();
        for entry in entries {
            let is_new = !ahead || entry.offset >= self.at[entry.partition];
            self.at = if ahead { further(&self.at, &entry.at) } else { entry.at.clone() };
            let own_cursor = ahead && self.at != entry.at;
            ahead = own_cursor;
            if !is_new || !self.filter.passes(&entry.facets) {
                continue;
            }
            messages.push(match own_cursor {
                true => entry.message.under(&self.cursor()),
                false => entry.message.clone(),
            });
        }
        self.place = Place::InRing { next: first + entries.len() as u64, ahead };
        messages
    }
}

/// Partition by partition the later of two places.
fn further(one: &[i64], other: &[i64]) -> Positions {
    one.iter().zip(other).map(|(one, other)| *one.max(other)).collect()
}

/// Whether `at` is nowhere before `mark`.
fn reaches(at: &[i64], mark: &[i64]) -> bool {
    at.iter().zip(mark).all(|(at, mark)| at >= mark)
}
