//! Records as they come from a partition, copied out of librdkafka's buffers.

use std::ffi::CStr;
use std::{fmt, ptr, slice};

use bytes::Bytes;
use rdkafka::Message;
use rdkafka::bindings as ffi;
use rdkafka::message::BorrowedMessage;

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
    /// Any client may give a header any name; rdkafka (0.39) panics over one that is not UTF-8.
    fn copy_of(message: &BorrowedMessage<'_>) -> Self {
        use ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR as FOUND;
        let mut all = Vec::new();
        let mut headers = ptr::null_mut();
        // SAFETY: the message is borrowed and lives; its headers live as long, and what they point to.
        unsafe {
            if ffi::rd_kafka_message_headers(message.ptr(), &mut headers) != FOUND {
                return Self(all);
            }
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            while ffi::rd_kafka_header_get_all(headers, all.len(), &mut name, &mut value, &mut size)
                == FOUND
            {
                let name = CStr::from_ptr(name).to_string_lossy().into_owned();
                let value = (!value.is_null())
                    .then(|| slice::from_raw_parts(value.cast::<u8>(), size).to_vec());
                all.push((name, value));
            }
        }
        Self(all)
    }

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
        Self {
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(Bytes::copy_from_slice),
            headers: Headers::copy_of(message),
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
