//! Reads all partitions of a topic from named offsets on, outside any group: for whoever looks on.

use std::time::Duration;

use futures_util::FutureExt;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message, Offset, TopicPartitionList};
use tokio::time::Instant;
use tracing::debug;

use super::bootstrap::Bootstrap;
use super::record::Record;
use crate::config::KafkaConfig;

/// The committed records of a topic, each partition in its order, from an offset each on.
pub struct TopicReader {
    consumer: StreamConsumer,
    topic: String,
    next: Vec<i64>,
    taken: Vec<(usize, Record)>,
    bootstrap: Bootstrap,
}

impl TopicReader {
    /// What one read hands out at most.
    const RECORDS_MAX: usize = 500;
    const BYTES_MAX: usize = 1 << 20;
    /// A read without records looks after so long whether the positions moved.
    const IDLE: Duration = Duration::from_millis(100);

    /// `from` has one offset for each partition.
    pub fn open(config: &KafkaConfig, topic: &str, from: &[i64]) -> KafkaResult<Self> {
        let consumer: StreamConsumer = super::consumer_config(config, "tallyman-tail")
            .set("fetch.message.max.bytes", "262144")
            .set("fetch.max.bytes", "1048576")
            .set("queued.min.messages", "1000")
            .set("queued.max.messages.kbytes", "1024")
            .set("fetch.queue.backoff.ms", "5")
            .set("fetch.error.backoff.ms", "100")
            .create()?;
        let mut list = TopicPartitionList::new();
        for (partition, offset) in (0..).zip(from) {
            list.add_partition_offset(topic, partition, Offset::Offset(*offset))?;
        }
        consumer.assign(&list)?;
        Ok(Self {
            consumer,
            topic: topic.to_owned(),
            next: from.to_vec(),
            taken: Vec::new(),
            bootstrap: Bootstrap::new(&config.kafka_brokers),
        })
    }

    /// The next offset of each partition: everything before was handed out or is no record.
    pub fn next(&self) -> &[i64] {
        &self.next
    }

    /// What there is, with the partition of each; waits for something, but not for long. Cancelling
    /// loses nothing. An error means that this reader is to be given up.
    pub async fn read(&mut self) -> KafkaResult<Vec<(usize, Record)>> {
        let deadline = Instant::now() + Self::IDLE;
        let mut bytes = 0;
        while self.taken.len() < Self::RECORDS_MAX && bytes < Self::BYTES_MAX {
            let received = match self.consumer.recv().now_or_never() {
                Some(received) => received,
                None if !self.taken.is_empty() => break,
                None => tokio::select! {
                    received = self.consumer.recv() => received,
                    () = self.bootstrap.due() => {
                        self.bootstrap.remind(self.consumer.client());
                        continue;
                    }
                    () = tokio::time::sleep_until(deadline) => break,
                },
            };
            match received {
                Ok(message) => bytes += take(&message, &mut self.next, &mut self.taken),
                Err(error) => endure(error, &mut self.bootstrap)?,
            }
        }
        if self.taken.is_empty() {
            self.follow_positions()?;
        }
        Ok(std::mem::take(&mut self.taken))
    }

    /// Control records move a position though no record arrives.
    fn follow_positions(&mut self) -> KafkaResult<()> {
        let positions = self.consumer.position()?;
        for (partition, next) in (0..).zip(&mut self.next) {
            let position = positions.find_partition(&self.topic, partition);
            if let Some(Offset::Offset(offset)) = position.map(|it| it.offset()) {
                *next = (*next).max(offset);
            }
        }
        Ok(())
    }
}

/// Copies a record; says how large it is.
fn take(
    message: &BorrowedMessage<'_>,
    next: &mut [i64],
    taken: &mut Vec<(usize, Record)>,
) -> usize {
    let partition = usize::try_from(message.partition()).unwrap_or(usize::MAX);
    let Some(next) = next.get_mut(partition).filter(|next| message.offset() >= **next) else {
        return 0;
    };
    *next = message.offset() + 1;
    let record = Record::copy_of(message);
    let bytes = record.size();
    taken.push((partition, record));
    bytes
}

/// librdkafka goes on by itself when brokers are away; anything else does not mend itself.
fn endure(error: KafkaError, bootstrap: &mut Bootstrap) -> KafkaResult<()> {
    use RDKafkaErrorCode::{
        AllBrokersDown, BrokerTransportFailure, OperationTimedOut, Resolve,
        SaslAuthenticationFailed,
    };
    match error.rdkafka_error_code() {
        Some(AllBrokersDown) => bootstrap.lost(),
        Some(BrokerTransportFailure | OperationTimedOut | Resolve | SaslAuthenticationFailed) => {}
        _ => return Err(error),
    }
    debug!(%error, "reading goes on when the brokers are back");
    Ok(())
}
