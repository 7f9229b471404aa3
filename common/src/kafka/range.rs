//! Reads a stretch of one partition, outside any group: how a task learns what it once wrote.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use super::record::{Record, TopicPartition};
use crate::config::KafkaConfig;

/// The records of one partition from an offset up to, not including, another.
pub struct RangeReader {
    consumer: Arc<BaseConsumer>,
    source: TopicPartition,
    next: i64,
    end: i64,
}

impl RangeReader {
    /// What one step holds at most: so restoring takes bounded memory, however long the log is.
    const STEP_RECORDS_MAX: usize = 2_000;
    /// A log that does not move for so long will not be read to its end.
    const PATIENCE: Duration = Duration::from_secs(30);
    /// A name is asked for; it is never joined.
    const GROUP: &str = "tallyman-range";

    /// The committed ones; waits at a transaction that is not decided.
    pub fn open(
        config: &KafkaConfig,
        source: &TopicPartition,
        range: Range<i64>,
    ) -> KafkaResult<Self> {
        Self::reading_with(super::consumer_config(config, Self::GROUP), source, range)
    }

    /// All of them, whatever becomes of their transactions.
    pub fn undecided(
        config: &KafkaConfig,
        source: &TopicPartition,
        range: Range<i64>,
    ) -> KafkaResult<Self> {
        Self::reading_with(
            super::undecided(super::consumer_config(config, Self::GROUP)),
            source,
            range,
        )
    }

    fn reading_with(
        mut config: ClientConfig,
        source: &TopicPartition,
        range: Range<i64>,
    ) -> KafkaResult<Self> {
        let consumer: BaseConsumer = config
            .set("fetch.wait.max.ms", "50")
            .set("queued.max.messages.kbytes", "8192")
            .create()?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&source.topic, source.partition, Offset::Offset(range.start))?;
        consumer.assign(&list)?;
        Ok(Self {
            consumer: Arc::new(consumer),
            source: source.clone(),
            next: range.start,
            end: range.end,
        })
    }

    /// The next records; `None` at the end.
    pub async fn next(&mut self) -> KafkaResult<Option<Vec<Record>>> {
        if self.next >= self.end {
            return Ok(None);
        }
        let (consumer, source) = (self.consumer.clone(), self.source.clone());
        let (next, end) = (self.next, self.end);
        let step = tokio::task::spawn_blocking(move || read_step(&consumer, &source, next, end));
        let (records, next) = step.await.expect("reading a range does not panic")?;
        self.next = next;
        Ok(Some(records))
    }
}

fn read_step(
    consumer: &BaseConsumer,
    source: &TopicPartition,
    mut next: i64,
    end: i64,
) -> KafkaResult<(Vec<Record>, i64)> {
    let deadline = Instant::now() + RangeReader::PATIENCE;
    let mut records = Vec::new();
    while next < end && records.len() < RangeReader::STEP_RECORDS_MAX {
        match consumer.poll(Duration::from_millis(50)) {
            Some(message) => {
                let message = message?;
                next = message.offset() + 1;
                if message.offset() < end {
                    records.push(Record::copy_of(&message));
                }
            }
            None if !records.is_empty() => break,
            // The last offsets may be control records, or compacted away: only the position tells.
            None => next = next.max(position(consumer, source)?),
        }
        if records.is_empty() && Instant::now() > deadline {
            return Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut));
        }
    }
    Ok((records, next))
}

fn position(consumer: &BaseConsumer, source: &TopicPartition) -> KafkaResult<i64> {
    let positions = consumer.position()?;
    let mine = positions.find_partition(&source.topic, source.partition);
    Ok(match mine.map(|it| it.offset()) {
        Some(Offset::Offset(offset)) => offset,
        _ => 0,
    })
}
