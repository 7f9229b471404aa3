//! Records as they come from a partition, copied out of librdkafka's buffers.

use std::fmt;

use bytes::Bytes;
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers as _};

/// One partition of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: String,
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// Header names and values, in the order they were sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, Option<Vec<u8>>)>);

impl Headers {
    /// The last value under a name, when it is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        let value = self.0.iter().rev().find(|(key, _)| key == name)?.1.as_deref()?;
        std::str::from_utf8(value).ok()
    }

    /// As a record to be sent has them.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.0.iter().map(|(name, value)| (&**name, value.as_deref()))
    }

    pub fn push(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.0.push((name.to_owned(), Some(value.into())));
    }
}

/// One record of a partition.
#[derive(Debug, Clone)]
pub struct Record {
    pub offset: i64,
    /// The record's own time (the broker's where the topic says `LogAppendTime`), in ms.
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Bytes>,
    pub headers: Headers,
}

impl Record {
    pub(super) fn copy_of(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map(|headers| {
            let pairs = headers.iter().map(|it| (it.key.to_owned(), it.value.map(<[u8]>::to_vec)));
            Headers(pairs.collect())
        });
        Self {
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(Bytes::copy_from_slice),
            headers: headers.unwrap_or_default(),
        }
    }

    /// Bytes this record holds in memory, roughly.
    pub fn size(&self) -> usize {
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Bytes::len) + 64
    }
}

/// Consecutive records of one partition: everything that lies in `from..to`.
#[derive(Debug, Clone)]
pub struct RecordBatch {
    pub from: i64,
    pub to: i64,
    pub records: Vec<Record>,
}
