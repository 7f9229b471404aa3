//! The partition of the state topic that belongs to a source: what is kept there, and how all of it
//! is brought back.

use std::ops::Range;
use std::time::{Duration, Instant};

use common::config::KafkaConfig;
use common::kafka::{
    Committed, GroupOffsets, KafkaError, Outgoing, RangeReader, Record, TopicPartition,
    TransactionError, TransactionalProducer,
};
use tracing::{info, warn};

use crate::position::{self, Ending};
use crate::state::UnreadableState;

/// Only the owner of `source` writes there, and in transactions. Kafka says that all of a former
/// owner's are over when it lets another one in; so what is undecided from then on stays so.
pub struct StateLog<'a> {
    pub kafka: &'a KafkaConfig,
    pub source: &'a TopicPartition,
    pub partition: TopicPartition,
    /// As they are decided, and as they are.
    pub offsets: &'a GroupOffsets,
    pub undecided: &'a GroupOffsets,
}

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    #[error(transparent)]
    Unreadable(#[from] UnreadableState),
}

impl StateLog<'_> {
    /// Longer than a leader takes to see what it was told.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// Writes a part of the state; none forgets it.
    pub async fn keep(
        &self,
        producer: &TransactionalProducer,
        key: &str,
        value: Option<&[u8]>,
    ) -> Result<(), TransactionError> {
        let record = Outgoing {
            topic: &self.partition.topic,
            partition: Some(self.partition.partition),
            key: Some(key.as_bytes()),
            value,
            headers: &[],
        };
        producer.send(&record).await
    }

    /// Shows all of the state, once the former owner is fenced, and tells of which offset it is.
    ///
    /// The end is that of the log, not of what is decided: reading up to it proves that nothing is
    /// missing, whatever the group's offset tells or does not.
    pub async fn restore(
        &self,
        producer: &TransactionalProducer,
        mut show: impl FnMut(&Record) -> Result<(), UnreadableState> + Send,
    ) -> Result<Option<i64>, RestoreError> {
        self.end_what_hangs(producer).await?;
        let log = self.undecided.watermarks(&self.partition).await?;
        let mut reader = RangeReader::open(self.kafka, &self.partition, log.low..log.high)?;
        let mut progress = Progress::new();
        let mut position = None;
        while let Some(records) = reader.next().await? {
            progress.add(&self.partition, records.len(), log.high);
            for record in &records {
                match position_in(record)? {
                    Some(next) => position = Some(next),
                    None => show(record)?,
                }
            }
        }
        Ok(position)
    }

    /// A lone broker that restarts, or a partition that is without a leader for a moment, can cost a
    /// transaction its markers (Kafka 4.3.1: the coordinator takes the partition for deleted). It
    /// counts as complete, and its records stay undecided until its producer ends another
    /// transaction on the same partition: this is that one.
    async fn end_what_hangs(&self, producer: &TransactionalProducer) -> Result<(), RestoreError> {
        let Some(hanging) = self.hanging().await? else { return Ok(()) };
        let left = self.last_position(hanging.clone()).await?;
        let committed = match self.offsets.committed_if_decided(self.source).await? {
            Committed::Decided(offset) => offset,
            Committed::Undecided => None,
        };
        let ending = position::ending(left, committed);
        warn!(partition = %self.partition, ?hanging, ?ending,
            "Kafka has left a transaction undecided that it calls complete; ending it");
        producer.begin()?;
        match ending {
            Ending::Commit(next) => {
                self.keep(producer, position::KEY, Some(&position::encode(next))).await?;
                // An offset beyond the state stays: it tells of a loss.
                producer.commit(self.source, committed.map_or(next, |it| it.max(next))).await?;
            }
            Ending::Abort => {
                self.keep(producer, position::KEY, None).await?;
                producer.abort().await?;
            }
        }
        Ok(())
    }

    /// What is not decided although it should be.
    async fn hanging(&self) -> Result<Option<Range<i64>>, KafkaError> {
        let end = self.undecided.watermarks(&self.partition).await?.high;
        let asked = Instant::now();
        loop {
            let decided = self.offsets.watermarks(&self.partition).await?.high;
            if decided >= end {
                return Ok(None);
            }
            if asked.elapsed() > Self::PATIENCE {
                return Ok(Some(decided..end));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The position that a stretch of the log ends with.
    async fn last_position(&self, range: Range<i64>) -> Result<Option<i64>, RestoreError> {
        let mut reader = RangeReader::undecided(self.kafka, &self.partition, range)?;
        let mut last = None;
        while let Some(records) = reader.next().await? {
            if let Some(record) = records.last() {
                last = position_in(record)?;
            }
        }
        Ok(last)
    }
}

fn position_in(record: &Record) -> Result<Option<i64>, UnreadableState> {
    match (record.key.as_deref(), record.value.as_deref()) {
        (Some(key), Some(value)) if key == position::KEY.as_bytes() => {
            position::decode(value).map(Some)
        }
        _ => Ok(None),
    }
}

/// Says how far a long restore has come.
struct Progress {
    records: usize,
    said: Instant,
}

impl Progress {
    fn new() -> Self {
        Self { records: 0, said: Instant::now() }
    }

    fn add(&mut self, source: &TopicPartition, records: usize, end: i64) {
        self.records += records;
        if self.said.elapsed() >= Duration::from_secs(2) {
            self.said = Instant::now();
            info!(%source, records = self.records, end, "restoring");
        }
    }
}
