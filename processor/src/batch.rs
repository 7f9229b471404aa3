//! One batch on its way: records decoded to candidates and dead letters, and what the judge made of them.

use std::sync::Arc;

use bytes::Bytes;
use common::event::{
    self, Arrival, CLOUD_EVENTS, EVENT_BYTES_MAX, Event, EventKey, Format, Identity,
    REWRITE_BYTES_MAX,
};
use common::kafka::{Headers, Record, RecordBatch, TopicPartition};
use common::trace::{self, TraceContext};
use hashbrown::HashSet;
use jiff::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

use crate::config::InputFormat;
use crate::words::{self, Words};

/// A source partition in one incarnation, under its number in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub number: i32,
    pub incarnation: i32,
    pub partition: TopicPartition,
    pub format: InputFormat,
}

impl Source {
    /// Where an offset of this source lies among all: `number << 44 | offset`.
    pub fn src(&self, offset: i64) -> i64 {
        (i64::from(self.number) << Self::OFFSET_BITS) | offset
    }

    pub fn offset_of(src: i64) -> i64 {
        src & ((1 << Self::OFFSET_BITS) - 1)
    }

    const OFFSET_BITS: u32 = 44;
}

/// A valid event that may be new.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    pub offset: i64,
    pub key: EventKey,
    pub received_at: Timestamp,
    pub event: Event,
    /// Where its way stands in a trace, for the few whose way is told.
    pub trace: Option<TraceContext>,
}

/// What counters, rollups and statistics see of an event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deed<'a> {
    pub offset: i64,
    pub event_type: &'a str,
    pub event_source: &'a str,
    pub user_id: &'a str,
    /// Type and id.
    pub object: Option<(&'a str, &'a str)>,
    pub occurred_at: Timestamp,
}

impl Candidate {
    pub fn deed(&self) -> Deed<'_> {
        let event = &self.event;
        Deed {
            offset: self.offset,
            event_type: &event.event_type,
            event_source: &event.source,
            user_id: &event.user_id,
            object: event.object.as_ref().map(|it| (&*it.object_type, &*it.id)),
            occurred_at: event.occurred_at,
        }
    }

    pub fn size(&self) -> usize {
        let event = &self.event;
        256 + event.event_id.len() + event.properties.len() + event.context.len()
    }
}

/// A record that cannot be an event, as it came, with its reason.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Its number in the table `dead_letters`; known once it has been read back from there.
    pub id: Option<i64>,
    pub offset: i64,
    pub received_at: Timestamp,
    pub key: Option<Vec<u8>>,
    pub value: Option<Bytes>,
    pub headers: Headers,
    pub code: String,
    pub detail: String,
    pub pointer: String,
}

impl DeadLetter {
    pub fn size(&self) -> usize {
        let bytes = |it: Option<&[u8]>| it.map_or(0, <[u8]>::len);
        let headers = self.headers.pairs().map(|(name, it)| name.len() + bytes(it));
        256 + bytes(self.key.as_deref()) + bytes(self.value.as_deref()) + headers.sum::<usize>()
    }
}

/// The last record of a batch: by it a re-created topic is told from the one that was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Witness {
    pub offset: i64,
    pub timestamp_ms: i64,
    pub hash: i64,
}

impl Witness {
    pub fn of(record: &Record) -> Self {
        let value = record.value.as_deref().unwrap_or_default();
        let hash = xxh3_64(value).cast_signed();
        Self { offset: record.offset, timestamp_ms: record.timestamp_ms, hash }
    }
}

/// A decoded batch. Each consumed record is in exactly one of its lists.
#[derive(Debug, Default)]
pub struct Batch {
    pub from: i64,
    pub to: i64,
    /// Counted at receipt: the outcomes must sum to it.
    pub consumed: usize,
    pub witness: Option<Witness>,
    /// One per key, for the judge.
    pub candidates: Vec<Candidate>,
    /// Further copies of candidates: duplicates, as long as the first of them can be stored.
    pub copies: Vec<Candidate>,
    /// What a cache or a look-up knows to be stored, under the generation `seen_under`.
    pub seen: Vec<Candidate>,
    pub seen_under: i64,
    pub dead: Vec<DeadLetter>,
    /// The records themselves while a candidate may still become a dead letter.
    originals: Vec<Record>,
}

impl Batch {
    /// Decodes every record; what is no event becomes a dead letter with its reason.
    pub fn decode(records: RecordBatch, source: &Source, seed: u64, now: Timestamp) -> Self {
        let mut batch = Self {
            from: records.from,
            to: records.to,
            consumed: records.records.len(),
            witness: records.records.last().map(Witness::of),
            candidates: Vec::with_capacity(records.records.len()),
            ..Self::default()
        };
        let mut keys = HashSet::with_capacity(records.records.len());
        for record in &records.records {
            match decode(record, source, seed, now) {
                Ok(candidate) if keys.insert(candidate.key) => batch.candidates.push(candidate),
                Ok(copy) => batch.copies.push(copy),
                Err(reason) => batch.dead.push(dead_letter(record, reason)),
            }
        }
        batch.originals = records.records;
        batch
    }

    /// Offsets without a record.
    pub fn skipped(&self) -> i64 {
        self.to - self.from - self.consumed as i64
    }

    /// Moves candidates that are certainly stored to `seen`.
    pub fn set_aside(&mut self, mut is_stored: impl FnMut(EventKey) -> bool) {
        self.seen.extend(self.candidates.extract_if(.., |it| is_stored(it.key)));
    }

    /// Takes back what a cache of another generation said: those events are candidates again.
    pub fn distrust_seen(&mut self) {
        if self.seen.is_empty() {
            return;
        }
        self.candidates.append(&mut self.seen);
        self.candidates.sort_by_key(|it| it.offset);
    }

    /// Turns the candidate at an offset into a dead letter; its next copy takes its place.
    pub fn convict(&mut self, offset: i64, code: &str, detail: &str) {
        let Some(at) = self.candidates.iter().position(|it| it.offset == offset) else { return };
        let convicted = self.candidates.remove(at);
        let reason =
            Reason { code: code.to_owned(), detail: detail.to_owned(), pointer: String::new() };
        if let Some(record) = self.originals.iter().find(|it| it.offset == offset) {
            self.dead.push(dead_letter(record, reason));
        }
        if let Some(next) = self.copies.iter().position(|it| it.key == convicted.key) {
            let copy = self.copies.remove(next);
            self.candidates.push(copy);
            self.candidates.sort_by_key(|it| it.offset);
        }
    }
}

struct Reason {
    code: String,
    detail: String,
    pointer: String,
}

fn decode(
    record: &Record,
    source: &Source,
    seed: u64,
    now: Timestamp,
) -> Result<Candidate, Reason> {
    if let Some(code) = record.headers.text("error_code") {
        // The gateway refused it already but may not say so to a compatibility client.
        let detail = record.headers.text("error_detail").unwrap_or("refused by the gateway");
        return Err(Reason {
            code: if is_code(code) { code } else { "refused" }.to_owned(),
            detail: detail.chars().take(DETAIL_CHARS_MAX).collect(),
            pointer: String::new(),
        });
    }
    let received_at = received_at(record, now);
    let surface = record.headers.text("surface");
    let arrival = Arrival {
        received_at,
        // The later of both clocks, or an event that the gateway accepted could be refused here.
        now: now.max(received_at),
        source: "kafka",
        user: None,
        bytes_max: EVENT_BYTES_MAX + if surface.is_some() { REWRITE_BYTES_MAX } else { 0 },
    };
    let unnamed = || unnamed(source, record.offset);
    let parsed = match (words::of(record, source.format), &record.value) {
        (Words::BinaryCloudEvent(text), _) => {
            event::parse_as(Format::CloudEvent, &text, &arrival, unnamed)
        }
        (Words::Of(format), Some(value)) => event::parse_shared(format, value, &arrival, unnamed),
        (Words::Of(_), None) => Err(event::InvalidEvent::NullValue),
    };
    let mut event = parsed.map_err(|invalid| Reason {
        code: invalid.code().to_owned(),
        detail: invalid.to_string(),
        pointer: invalid.pointer().to_owned(),
    })?;
    if surface == Some(CLOUD_EVENTS) {
        event.identity = Identity::SourceAndId;
    }
    let trace = trace::place_in(&record.headers);
    Ok(Candidate { offset: record.offset, key: event.key(seed), received_at, event, trace })
}

/// Of what a header says the reason is.
const DETAIL_CHARS_MAX: usize = 1_000;

/// Whether it is like what the gateway says. Others may write that header too, and a text of kilobytes fits
/// into no index.
fn is_code(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|it| matches!(it, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

/// The identity of an event that brings neither id nor time: its place in the log.
fn unnamed(source: &Source, offset: i64) -> String {
    let TopicPartition { topic, partition } = &source.partition;
    format!("{topic}/{}/{partition}/{offset}", source.incarnation)
}

/// The record's time. Without one it has -1 or 0; one before 1970 is a producer's mistake, and some of
/// them fit no column.
fn received_at(record: &Record, now: Timestamp) -> Timestamp {
    let told = Timestamp::from_millisecond(record.timestamp_ms).ok();
    told.filter(|_| record.timestamp_ms > 0).unwrap_or(now)
}

fn dead_letter(record: &Record, reason: Reason) -> DeadLetter {
    DeadLetter {
        id: None,
        offset: record.offset,
        received_at: received_at(record, Timestamp::now()),
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.clone(),
        code: reason.code,
        detail: reason.detail,
        pointer: reason.pointer,
    }
}

/// What is committed in Postgres of a range of offsets; what every follower works from.
#[derive(Debug)]
pub struct Judged {
    pub source: Arc<Source>,
    pub from: i64,
    pub to: i64,
    /// The generation the commit was made under.
    pub generation: i64,
    /// In offset order.
    pub stored: Vec<Candidate>,
    pub dead: Vec<DeadLetter>,
}

impl Judged {
    /// Bytes this holds in memory, roughly.
    pub fn size(&self) -> usize {
        self.stored.iter().map(Candidate::size).sum::<usize>()
            + self.dead.iter().map(DeadLetter::size).sum::<usize>()
    }

    /// The part from an offset on, for a follower whose mark lies inside the range.
    pub fn since(&self, offset: i64) -> Self {
        Self {
            source: self.source.clone(),
            from: offset,
            to: self.to,
            generation: self.generation,
            stored: self.stored.iter().filter(|it| it.offset >= offset).cloned().collect(),
            dead: self.dead.iter().filter(|it| it.offset >= offset).cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_without_a_usable_time_arrives_now() {
        let now = Timestamp::now();
        let record = |timestamp_ms| Record {
            offset: 0,
            timestamp_ms,
            key: None,
            value: None,
            headers: Headers::default(),
        };
        // Without a time; a date that fits no column; none at all.
        for unusable in [-1, 0, -300_000_000_000_000, i64::MIN, i64::MAX] {
            assert_eq!(received_at(&record(unusable), now), now, "{unusable}");
        }
        assert_eq!(
            received_at(&record(1_767_323_045_678), now).as_millisecond(),
            1_767_323_045_678
        );
    }
}
