//! Records and a group offset in one Kafka transaction, under a fenced identity.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rdkafka::bindings as ffi;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

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
///
/// What is queued goes out when it is flushed, in one request for a partition, and is waited for. Were it
/// left to librdkafka (2.12) when to send, its thread would spin from the moment a record has lingered until
/// the request before it is answered (its issue 2565): with a broker that is slow for some seconds a core
/// for every partition, which makes it slower yet (tried).
pub struct TransactionalProducer {
    inner: Arc<BaseProducer>,
    offsets: GroupOffsets,
    /// So much is flushed at a time: whatever partitions it is for, it is one batch for each.
    batch_bytes: usize,
    /// Bytes that are queued and not flushed, at most.
    queued: AtomicUsize,
    _poller: JoinSet<()>,
}

impl TransactionalProducer {
    /// How often librdkafka's logs and errors are fetched while nothing is waited for.
    const POLL_EVERY: Duration = Duration::from_millis(100);

    /// A batch that every topic takes.
    const BATCH_BYTES: usize = 1_000_000;

    /// Takes over a transactional id. When this returns, no earlier owner can commit any more and
    /// what it had begun is decided.
    pub async fn fence(
        config: &KafkaConfig,
        transactional_id: &str,
        offsets: GroupOffsets,
    ) -> Result<Self, TransactionError> {
        Self::fence_with(config, transactional_id, offsets, Self::BATCH_BYTES).await
    }

    /// With batches of so many bytes, which all topics that are written to must take.
    pub async fn fence_with(
        config: &KafkaConfig,
        transactional_id: &str,
        offsets: GroupOffsets,
        batch_bytes: usize,
    ) -> Result<Self, TransactionError> {
        let producer: BaseProducer = super::client_config(config)
            .set("transactional.id", transactional_id)
            .set("transaction.timeout.ms", "15000")
            .set("message.timeout.ms", "14000")
            .set("compression.type", "lz4")
            .set("partitioner", "murmur2_random")
            // `flush` sends; the partitioner would keep to a partition for twice as long.
            .set("linger.ms", "13000")
            .set("sticky.partitioning.linger.ms", "4")
            // What was delivered is told by the commit; only what was not is worth a report.
            .set("delivery.report.only.error", "true")
            .set("message.max.bytes", "4194304")
            .set("queue.buffering.max.messages", "100000")
            .set("batch.num.messages", "100000")
            .set("batch.size", batch_bytes.to_string())
            .set("queue.buffering.max.kbytes", "4096")
            .create()?;
        let inner = Arc::new(producer);
        let mut poller = JoinSet::new();
        poller.spawn(poll(Arc::downgrade(&inner)));
        let this =
            Self { inner, offsets, batch_bytes, queued: AtomicUsize::new(0), _poller: poller };
        this.blocking(|producer| producer.init_transactions(Duration::from_secs(30))).await?;
        Ok(this)
    }

    pub fn begin(&self) -> Result<(), TransactionError> {
        Ok(self.inner.begin_transaction()?)
    }

    /// Adds a record to the transaction; waits for those before it when they are many.
    pub async fn send(&self, record: &Outgoing<'_>) -> Result<(), TransactionError> {
        let size = record.size();
        if self.queued.load(Ordering::Relaxed) + size > self.batch_bytes {
            self.flush().await?;
        }
        self.queued.fetch_add(size, Ordering::Relaxed);
        Ok(self.inner.send(record.message(())).map_err(|(error, _)| error)?)
    }

    /// Sends what is queued and waits until it is answered; what failed, the commit reports. Commit and abort
    /// begin with it.
    pub async fn flush(&self) -> Result<(), TransactionError> {
        const TIMEOUT_MS: i32 = 15_000;
        self.queued.store(0, Ordering::Relaxed);
        self.blocking(|producer| {
            // rdkafka's own flush looks only every 100 ms whether it is done (tried), and asks for it so shortly
            // that nothing may be sent.
            // SAFETY: the client is borrowed and lives.
            match unsafe { ffi::rd_kafka_flush(producer.client().native_ptr(), TIMEOUT_MS) } {
                ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
                late => Err(KafkaError::Flush(late.into())),
            }
        })
        .await
    }

    /// Commits the records together with the group's offset in `source`.
    pub async fn commit(&self, source: &TopicPartition, next: i64) -> Result<(), TransactionError> {
        self.flush().await?;
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
        self.flush().await?;
        self.blocking(|producer| producer.abort_transaction(REQUEST_TIMEOUT)).await
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
