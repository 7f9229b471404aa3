//! Records and a group offset in one Kafka transaction, under a fenced identity.

use std::sync::{Arc, Weak};
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::REQUEST_TIMEOUT;
use super::offsets::GroupOffsets;
use super::producer::Outgoing;
use super::record::TopicPartition;
use crate::config::KafkaConfig;

/// Why a transaction did not happen, by what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum TransactionError {
    /// Somebody else took this identity: stop.
    #[error("another producer owns this transactional id")]
    Fenced,
    /// Make a new producer, read the committed offset again, and go on from there.
    #[error("the transaction failed")]
    Failed(#[source] KafkaError),
}

impl From<KafkaError> for TransactionError {
    fn from(error: KafkaError) -> Self {
        match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::Fenced
                | RDKafkaErrorCode::ProducerFenced
                | RDKafkaErrorCode::InvalidProducerEpoch,
            ) => Self::Fenced,
            _ => Self::Failed(error),
        }
    }
}

/// The one producer of a transactional id; creating it fences the one before.
pub struct TransactionalProducer {
    inner: Arc<BaseProducer>,
    offsets: GroupOffsets,
    _poller: JoinSet<()>,
}

impl TransactionalProducer {
    /// How often librdkafka's logs and errors are fetched while nothing is waited for.
    const POLL_EVERY: Duration = Duration::from_millis(100);

    /// Takes over a transactional id. When this returns, no earlier owner can commit any more and
    /// what it had begun is decided.
    pub async fn fence(
        config: &KafkaConfig,
        transactional_id: &str,
        offsets: GroupOffsets,
    ) -> Result<Self, TransactionError> {
        let producer: BaseProducer = super::client_config(config)
            .set("transactional.id", transactional_id)
            .set("transaction.timeout.ms", "15000")
            .set("message.timeout.ms", "14000")
            .set("compression.type", "lz4")
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "2")
            // What was delivered is told by the commit; only what was not is worth a report.
            .set("delivery.report.only.error", "true")
            .set("message.max.bytes", "4194304")
            .set("queue.buffering.max.messages", "100000")
            .set("queue.buffering.max.kbytes", "4096")
            .create()?;
        let inner = Arc::new(producer);
        let mut poller = JoinSet::new();
        poller.spawn(poll(Arc::downgrade(&inner)));
        let this = Self { inner, offsets, _poller: poller };
        this.blocking(|producer| producer.init_transactions(Duration::from_secs(30))).await?;
        Ok(this)
    }

    pub fn begin(&self) -> Result<(), TransactionError> {
        Ok(self.inner.begin_transaction()?)
    }

    /// Adds a record to the transaction; waits while the queue is full.
    pub async fn send(&self, record: &Outgoing<'_>) -> Result<(), TransactionError> {
        loop {
            match self.inner.send(record.message(())) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    sleep(Duration::from_millis(2)).await;
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }

    /// Commits the records together with the group's offset in `source`.
    pub async fn commit(&self, source: &TopicPartition, next: i64) -> Result<(), TransactionError> {
        self.delivered().await;
        let source = source.clone();
        let offsets = self.offsets.clone();
        self.blocking(move |producer| {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&source.topic, source.partition, Offset::Offset(next))?;
            producer.send_offsets_to_transaction(&list, &offsets.metadata(), REQUEST_TIMEOUT)?;
            producer.commit_transaction(REQUEST_TIMEOUT)
        })
        .await
    }

    /// Commits what the last transaction of this identity has left undecided of the group's offsets.
    ///
    /// A lone broker that restarts, or a partition that is without a leader for a moment, can cost a
    /// transaction its markers (Kafka 4.3.1: the coordinator takes the partitions for deleted). It
    /// counts as complete, and `fence` does not wait for it, but its offsets stay undecided until the
    /// same producer ends another one in the group. That one must commit something: the offset of
    /// `beside`, which nobody reads.
    pub async fn commit_what_hangs(&self, beside: &TopicPartition) -> Result<(), TransactionError> {
        self.begin()?;
        self.commit(beside, 0).await
    }

    /// Undoes the records.
    pub async fn abort(&self) -> Result<(), TransactionError> {
        self.delivered().await;
        self.blocking(|producer| producer.abort_transaction(REQUEST_TIMEOUT)).await
    }

    /// Waits until no record is under way; what failed, the commit reports. rdkafka's own flush,
    /// which every commit begins with, looks only every 100 ms whether it is done (tried).
    async fn delivered(&self) {
        while self.inner.in_flight_count() > 0 {
            self.inner.poll(Duration::ZERO);
            sleep(Duration::from_millis(1)).await;
        }
    }

    async fn blocking(
        &self,
        act: impl FnOnce(&BaseProducer) -> Result<(), KafkaError> + Send + 'static,
    ) -> Result<(), TransactionError> {
        let producer = self.inner.clone();
        let done = tokio::task::spawn_blocking(move || act(&producer)).await;
        Ok(done.expect("a transaction step does not panic")?)
    }
}

/// Instead of rdkafka's own polling thread: that one spins for the last millisecond of each 100, since
/// its timeouts are whole ones, and there is a producer for every partition (with 40 an idle processor
/// took 38 % of a core, 6 % without).
async fn poll(producer: Weak<BaseProducer>) {
    let mut ticks = interval(TransactionalProducer::POLL_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while let Some(producer) = producer.upgrade() {
        producer.poll(Duration::ZERO);
        drop(producer);
        ticks.tick().await;
    }
}
