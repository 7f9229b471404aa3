//! Takes a partition of a topic, works on it, and gives it up; each batch is one transaction.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use common::config::KafkaConfig;
use common::failpoint::kill_point;
use common::kafka::{
    GroupOffsets, Headers, KafkaError, Outgoing, PartitionReader, Partitions, ReadLimits, Record,
    TopicPartition, TransactionError, TransactionalProducer,
};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::group::Left;
use crate::metrics::PartitionMetrics;
use crate::position::{self, Torn};
use crate::readiness::{Begun, Taking};
use crate::state::UnreadableState;
use crate::state_log::{RestoreError, StateLog};
use crate::windows::{Clock, Now};

/// What is known of one partition and made of its records. It lives in memory and in the state
/// topic; when a transaction fails, the whole of it is thrown away and restored.
pub trait Task: Send + Sync + 'static {
    /// Where a test may kill the daemon.
    const KILL_POINTS: KillPoints;

    /// Takes in what an earlier run wrote; a later record of a key replaces it.
    fn restore(&mut self, record: &Record) -> Result<(), UnreadableState>;
    /// After the last record is restored.
    fn resume(&mut self, now: Now);
    /// Takes in one record; refuses only what a later version wrote.
    fn observe(&mut self, record: &Record, now: Now) -> Result<(), UnreadableState>;
    fn clock(&mut self) -> &mut Clock;
    /// Looks what is over; after each batch, and now and then without one.
    fn close(&mut self, now: Now);
    fn has_changes(&self) -> bool;
    /// What is to be written now.
    fn take_changes(&mut self) -> Changes;
    /// So many records were taken in, and everything that was taken is committed.
    fn committed(&mut self, records: u64);
    /// How much it remembers.
    fn size(&self) -> usize;
}

/// The names of a task's kill points.
pub struct KillPoints {
    pub after_restore: &'static str,
    pub in_transaction: &'static str,
    pub before_commit: &'static str,
    pub after_commit: &'static str,
}

/// What a transaction has to write.
#[derive(Debug, Default)]
pub struct Changes {
    pub told: Vec<Told>,
    /// Key and value of each part of the state that changed; none where it is forgotten.
    pub states: Vec<(Arc<str>, Option<Vec<u8>>)>,
}

/// A record for others; its key decides where it lies.
#[derive(Debug, Clone)]
pub struct Told {
    pub topic: Arc<str>,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub headers: Headers,
}

/// What all partitions of one topic share in this instance.
pub struct Shared<T> {
    pub kafka: KafkaConfig,
    pub group: String,
    pub input_topic: String,
    pub state_topic: String,
    /// Of the input and of the state alike.
    pub partition_count: i32,
    pub limits: ReadLimits,
    pub quiet_ms: i64,
    pub offsets: GroupOffsets,
    /// The same without waiting for transactions.
    pub undecided: GroupOffsets,
    pub metrics: PartitionMetrics,
    pub taking: Taking,
    /// Makes the task of a partition, which knows nothing yet.
    pub begin: Box<dyn Fn(Now) -> T + Send + Sync>,
}

/// Why a partition is taken anew, or not at all.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("another instance took over")]
    Fenced,
    #[error("the transaction failed")]
    Transaction(#[source] KafkaError),
    #[error("Kafka cannot be read")]
    Kafka(#[from] KafkaError),
    #[error(
        "committed up to offset {committed}, but the log ends at {high}: the topic was re-created; \
         delete the group's offsets and the state topic to begin anew"
    )]
    Ahead { committed: i64, high: i64 },
    #[error("the log begins at {low}, after our position {next}")]
    Behind { next: i64, low: i64 },
    #[error(
        "the state is that of offset {}, the group's offset is {}: the state has lost its last \
         records, or the offset was moved by hand; delete the offset to go on from the state",
        .0.restored, .0.committed
    )]
    Torn(Torn),
    #[error(transparent)]
    State(#[from] UnreadableState),
}

impl From<TransactionError> for Lost {
    fn from(error: TransactionError) -> Self {
        match error {
            TransactionError::Fenced => Self::Fenced,
            TransactionError::Failed(source) => Self::Transaction(source),
        }
    }
}

impl From<RestoreError> for Lost {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Kafka(error) => error.into(),
            RestoreError::Transaction(error) => error.into(),
            RestoreError::Unreadable(error) => error.into(),
        }
    }
}

impl Lost {
    /// The label in the metrics.
    fn reason(&self) -> &'static str {
        match self {
            Self::Fenced => "fenced",
            Self::Transaction(_) => "transaction",
            Self::Kafka(_) => "kafka",
            Self::Ahead { .. } | Self::Behind { .. } | Self::Torn(_) => "offset",
            Self::State(_) => "state",
        }
    }
}

/// One partition that Kafka assigned to us.
pub struct Partition<T> {
    shared: Arc<Shared<T>>,
    partitions: Partitions,
    source: TopicPartition,
}

/// A partition that is ours: nobody else can commit for it, and all it knew is in memory.
struct Taken<T> {
    producer: TransactionalProducer,
    task: T,
    /// The first record that is not in `task`.
    next: i64,
}

impl<T: Task> Partition<T> {
    pub fn new(shared: Arc<Shared<T>>, partitions: Partitions, source: TopicPartition) -> Self {
        Self { shared, partitions, source }
    }

    /// Takes the partition and watches it until it is to be given up; whenever a transaction fails,
    /// all that was in memory is thrown away and the partition is taken again.
    pub async fn hold(self, stop: CancellationToken) -> anyhow::Result<Left> {
        ensure!(
            self.source.partition < self.shared.partition_count,
            "{} is new: {} has only {} partitions, and counts would be torn apart; the number of \
             partitions is fixed",
            self.source,
            self.shared.state_topic,
            self.shared.partition_count
        );
        let mut attempts = Attempts::default();
        loop {
            let lost = match self.take_and_work(&stop, &mut attempts).await {
                Ok(left) => return Ok(left),
                Err(Lost::State(error)) => return Err(error.into()),
                Err(lost) => lost,
            };
            attempts.failures += 1;
            self.shared.metrics.failed_total.with_label_values(&[lost.reason()]).inc();
            report(&self.source, &lost);
            if stop.run_until_cancelled(tokio::time::sleep(attempts.pause())).await.is_none() {
                return Ok(Left::Closed);
            }
        }
    }

    async fn take_and_work(
        &self,
        stop: &CancellationToken,
        attempts: &mut Attempts,
    ) -> Result<Left, Lost> {
        attempts.begun.get_or_insert_with(|| self.shared.taking.begin());
        let Some(taken) = stop.run_until_cancelled(self.take()).await else {
            return Ok(Left::Closed);
        };
        let taken = taken?;
        let reader = self.partitions.open(&self.source, taken.next)?;
        *attempts = Attempts::default();
        let owned = &self.shared.metrics.owned;
        owned.inc();
        let worked = self.work(taken, reader, stop).await;
        owned.dec();
        if worked.is_err() {
            self.partitions.release([&self.source])?;
        }
        worked.map(|()| Left::Opened)
    }

    /// The order is the point: once the former owner is fenced, all of its state lies before the end
    /// of the state topic. The group's offset, which may be undecided for ever, is not waited for:
    /// it only warns of a state that was lost.
    async fn take(&self) -> Result<Taken<T>, Lost> {
        let Shared { kafka, group, offsets, undecided, metrics, begin, .. } = &*self.shared;
        let begun = Instant::now();
        let transactional_id = format!("{group}/{}", self.source);
        let producer =
            TransactionalProducer::fence(kafka, &transactional_id, offsets.clone()).await?;
        let mut task = begin(now());
        let restored = self.state_log().restore(&producer, |record| task.restore(record)).await?;
        task.resume(now());
        let committed = undecided.committed(&self.source).await?;
        let next = self.start(position::agreed(committed, restored).map_err(Lost::Torn)?).await?;
        metrics.restore_seconds.observe(begun.elapsed().as_secs_f64());
        info!(source = %self.source, next, remembers = task.size(), "partition taken");
        kill_point(T::KILL_POINTS.after_restore);
        Ok(Taken { producer, task, next })
    }

    /// The first offset to read, for a position where there is one.
    async fn start(&self, position: Option<i64>) -> Result<i64, Lost> {
        let marks = self.shared.offsets.watermarks(&self.source).await?;
        let Some(committed) = position else { return Ok(marks.low) };
        if committed > marks.high {
            return Err(Lost::Ahead { committed, high: marks.high });
        }
        if committed < marks.low {
            // They are gone for everybody: to stop would not bring them back.
            error!(source = %self.source, committed, low = marks.low,
                "records were deleted by retention before they were read");
        }
        Ok(committed.max(marks.low))
    }

    fn state_log(&self) -> StateLog<'_> {
        let Shared { kafka, state_topic, offsets, undecided, .. } = &*self.shared;
        let partition =
            TopicPartition { topic: state_topic.clone(), partition: self.source.partition };
        StateLog { kafka, source: &self.source, partition, offsets, undecided }
    }

    async fn work(
        &self,
        mut taken: Taken<T>,
        mut reader: PartitionReader,
        stop: &CancellationToken,
    ) -> Result<(), Lost> {
        let partition = self.source.partition.to_string();
        let size = self.shared.metrics.size.with_label_values(&[&*partition]);
        let mut quiet = Quiet::default();
        // Only reading is cancelled: a transaction that was begun is always ended.
        while let Some(batch) = stop.run_until_cancelled(reader.read(self.shared.limits)).await {
            let now = now();
            let mut records = 0;
            match batch? {
                Some(batch) => {
                    records = batch.records.len() as u64;
                    for record in &batch.records {
                        taken.task.observe(record, now)?;
                    }
                    taken.next = batch.to;
                }
                None => self.follow_wall(&mut taken, &mut quiet, now).await?,
            }
            taken.task.close(now);
            if taken.next != quiet.committed || taken.task.has_changes() {
                self.commit(&mut taken).await?;
                quiet.committed = taken.next;
            }
            taken.task.committed(records);
            size.set(taken.task.size() as i64);
        }
        Ok(())
    }

    /// A partition without records follows the wall clock, but only one that is read to its end: a
    /// broker that is away is silent too.
    async fn follow_wall(
        &self,
        taken: &mut Taken<T>,
        quiet: &mut Quiet,
        now: Now,
    ) -> Result<(), Lost> {
        if !taken.task.clock().is_quiet(now) {
            return Ok(());
        }
        if now.steady_ms >= quiet.asked_ms + self.shared.quiet_ms {
            let Ok(marks) = self.shared.offsets.watermarks(&self.source).await else {
                return Ok(());
            };
            if marks.low > taken.next {
                return Err(Lost::Behind { next: taken.next, low: marks.low });
            }
            quiet.asked_ms = now.steady_ms;
            quiet.is_at_end = marks.high <= taken.next;
        }
        if quiet.is_at_end {
            taken.task.clock().follow_wall(now);
        }
        Ok(())
    }

    /// What is told, changed state and the offset of what caused them: all of it or nothing.
    async fn commit(&self, taken: &mut Taken<T>) -> Result<(), Lost> {
        let begun = Instant::now();
        let Changes { told, states } = taken.task.take_changes();
        let producer = &taken.producer;
        producer.begin()?;
        for told in &told {
            let record = Outgoing {
                topic: &told.topic,
                partition: None,
                key: Some(&told.key),
                value: Some(&told.value),
                headers: &told.headers.pairs().collect::<Vec<_>>(),
            };
            producer.send(&record).await?;
        }
        if !told.is_empty() {
            // Before the position, which tells that they are there.
            producer.flush().await?;
        }
        kill_point(T::KILL_POINTS.in_transaction);
        let log = self.state_log();
        for (key, value) in &states {
            log.keep(producer, key, value.as_deref()).await?;
        }
        // The last of its records: it tells that the others are there.
        log.keep(producer, position::KEY, Some(&position::encode(taken.next))).await?;
        producer.flush().await?;
        kill_point(T::KILL_POINTS.before_commit);
        producer.commit(&self.source, taken.next).await?;
        kill_point(T::KILL_POINTS.after_commit);
        debug!(source = %self.source, next = taken.next, states = states.len(), told = told.len(),
            "committed");
        let metrics = &self.shared.metrics;
        metrics.transaction_seconds.observe(begun.elapsed().as_secs_f64());
        metrics.states_written_total.inc_by(states.len() as u64);
        Ok(())
    }
}

/// What it took so far to take a partition.
#[derive(Default)]
struct Attempts {
    failures: u32,
    /// Not ready from the first attempt to the one that succeeds.
    begun: Option<Begun>,
}

impl Attempts {
    /// Between an eighth and a whole of a time that doubles up to 5 s: two instances that fence
    /// each other do not do so in step.
    fn pause(&self) -> Duration {
        let whole_ms = (250_u64 << self.failures.min(5)).min(5_000);
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
        Duration::from_millis(whole_ms / 8 + u64::from(nanos / 1_000) % (whole_ms * 7 / 8))
    }
}

/// What is known of a partition that is silent.
#[derive(Default)]
struct Quiet {
    /// When the end of the log was asked for, by the steady clock.
    asked_ms: i64,
    is_at_end: bool,
    committed: i64,
}

fn report(source: &TopicPartition, lost: &Lost) {
    match lost {
        Lost::Fenced => info!(%source, "{lost}; taking over again if it is still mine"),
        Lost::Ahead { .. } => error!(%source, "{lost}"),
        _ => {
            let cause = std::error::Error::source(lost).map(ToString::to_string);
            warn!(%source, cause, "{lost}; taking the partition again");
        }
    }
}

fn now() -> Now {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let steady_ms = START.elapsed().as_millis().try_into().unwrap_or(i64::MAX);
    Now { wall_ms: Timestamp::now().as_millisecond(), steady_ms }
}
