//! Takes a partition of unique actions, watches it, and gives it up; each batch is one transaction.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use common::config::KafkaConfig;
use common::failpoint::kill_point;
use common::kafka::{
    GroupOffsets, Headers, KafkaError, Outgoing, PartitionReader, Partitions, RangeReader,
    ReadLimits, TopicPartition, TransactionError, TransactionalProducer,
};
use common::trace;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::group::Left;
use crate::metrics::AlerterMetrics;
use crate::position::{self, Torn};
use crate::readiness::{Begun, Taking};
use crate::rules::Rules;
use crate::state::UnreadableState;
use crate::watch::{Alert, Changes, Watch};
use crate::windows::Now;

/// What all partitions of this instance share.
pub struct Shared {
    pub kafka: KafkaConfig,
    pub group: String,
    pub input_topic: String,
    pub state_topic: String,
    pub notification_topic: String,
    /// Of the input and of the state alike.
    pub partition_count: i32,
    pub limits: ReadLimits,
    pub rules: Arc<Rules>,
    pub offsets: GroupOffsets,
    pub metrics: AlerterMetrics,
    pub taking: Taking,
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
        "the state is that of offset {}, the group's offset is {}: the state's last records are not \
         there yet; if the offset was moved by hand, delete it",
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
pub struct Partition {
    shared: Arc<Shared>,
    partitions: Partitions,
    source: TopicPartition,
}

/// A partition that is ours: nobody else can commit for it, and all it knew is in memory.
struct Taken {
    producer: TransactionalProducer,
    watch: Watch,
    /// The first record that is not in `watch`.
    next: i64,
}

impl Partition {
    pub fn new(shared: Arc<Shared>, partitions: Partitions, source: TopicPartition) -> Self {
        Self { shared, partitions, source }
    }

    /// Takes the partition and watches it until it is to be given up; whenever a transaction fails,
    /// all that was in memory is thrown away and the partition is taken again.
    pub async fn hold(self, stop: CancellationToken) -> anyhow::Result<Left> {
        ensure!(
            self.source.partition < self.shared.partition_count,
            "{} is new: the state topic has only {} partitions, and counts of objects would be \
             torn apart; the partitions of unique actions are fixed",
            self.source,
            self.shared.partition_count
        );
        let mut attempts = Attempts::default();
        loop {
            let lost = match self.take_and_watch(&stop, &mut attempts).await {
                Ok(left) => return Ok(left),
                Err(Lost::State(error)) => return Err(error.into()),
                Err(lost) => lost,
            };
            attempts.failures += 1;
            self.shared.metrics.transactions_failed_total.with_label_values(&[lost.reason()]).inc();
            report(&self.source, &lost);
            if stop.run_until_cancelled(tokio::time::sleep(attempts.pause())).await.is_none() {
                return Ok(Left::Closed);
            }
        }
    }

    async fn take_and_watch(
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
        let owned = &self.shared.metrics.partitions_owned;
        owned.inc();
        let watched = self.watch(taken, reader, stop).await;
        owned.dec();
        if watched.is_err() {
            self.partitions.release([&self.source])?;
        }
        watched.map(|()| Left::Opened)
    }

    /// The order is the point: once the former owner is fenced, the committed offset is final, and
    /// all the state that belongs to it lies before the end of the state topic; the position in it
    /// proves that.
    async fn take(&self) -> Result<Taken, Lost> {
        let Shared { kafka, group, offsets, metrics, .. } = &*self.shared;
        let begun = Instant::now();
        let transactional_id = format!("{group}/{}", self.source);
        let producer =
            TransactionalProducer::fence(kafka, &transactional_id, offsets.clone()).await?;
        let committed = offsets.committed(&self.source).await?;
        let (watch, restored) = self.restore().await?;
        let next = self.start(position::agreed(committed, restored).map_err(Lost::Torn)?).await?;
        metrics.restore_seconds.observe(begun.elapsed().as_secs_f64());
        info!(source = %self.source, next, objects = watch.objects(), "partition taken");
        kill_point("alerter_after_restore");
        Ok(Taken { producer, watch, next })
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
                "unique actions were deleted by retention before they were read");
        }
        Ok(committed.max(marks.low))
    }

    /// What the state topic holds of the partition, and of which offset that is.
    async fn restore(&self) -> Result<(Watch, Option<i64>), Lost> {
        let Shared { kafka, state_topic, offsets, rules, .. } = &*self.shared;
        let source =
            TopicPartition { topic: state_topic.clone(), partition: self.source.partition };
        let end = offsets.watermarks(&source).await?;
        let mut watch = Watch::new(rules.clone(), now());
        let mut reader = RangeReader::open(kafka, &source, end.low..end.high)?;
        let mut progress = Progress::new();
        let mut position = None;
        while let Some(records) = reader.next().await? {
            progress.add(&source, records.len(), end.high);
            for record in records {
                let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default());
                match (&*key, record.value.as_deref()) {
                    (position::KEY, Some(value)) => position = Some(position::decode(value)?),
                    (key, value) => watch.restore(key, value)?,
                }
            }
        }
        watch.resume();
        Ok((watch, position))
    }

    async fn watch(
        &self,
        mut taken: Taken,
        mut reader: PartitionReader,
        stop: &CancellationToken,
    ) -> Result<(), Lost> {
        let partition = self.source.partition.to_string();
        let objects = self.shared.metrics.objects.with_label_values(&[&*partition]);
        let mut quiet = Quiet::default();
        // Only reading is cancelled: a transaction that was begun is always ended.
        while let Some(batch) = stop.run_until_cancelled(reader.read(self.shared.limits)).await {
            let now = now();
            let mut records = 0;
            match batch? {
                Some(batch) => {
                    records = batch.records.len() as u64;
                    for record in &batch.records {
                        let value = record.value.as_deref().unwrap_or_default();
                        taken.watch.observe(value, trace::place_in(&record.headers), now);
                    }
                    taken.next = batch.to;
                }
                None => self.follow_wall(&mut taken, &mut quiet, now).await?,
            }
            taken.watch.close(now);
            if taken.next != quiet.committed || taken.watch.has_changes() {
                self.commit(&mut taken).await?;
                quiet.committed = taken.next;
            }
            self.count(&mut taken.watch, records);
            objects.set(taken.watch.objects() as i64);
        }
        Ok(())
    }

    /// A partition without records follows the wall clock, but only one that is read to its end: a
    /// broker that is away is silent too.
    async fn follow_wall(
        &self,
        taken: &mut Taken,
        quiet: &mut Quiet,
        now: Now,
    ) -> Result<(), Lost> {
        if !taken.watch.clock().is_quiet(now) {
            return Ok(());
        }
        if now.steady_ms >= quiet.asked_ms + self.shared.rules.timing.quiet_ms {
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
            taken.watch.clock().follow_wall(now);
        }
        Ok(())
    }

    /// Notifications, changed state and the offset of what caused them: all of it or nothing.
    async fn commit(&self, taken: &mut Taken) -> Result<(), Lost> {
        let begun = Instant::now();
        let Changes { alerts, states } = taken.watch.take_changes();
        let producer = &taken.producer;
        producer.begin()?;
        for alert in &alerts {
            self.notify(producer, alert).await?;
        }
        kill_point("alerter_in_transaction");
        for (key, value) in &states {
            self.keep(producer, key.as_bytes(), value).await?;
        }
        let position = position::encode(taken.next);
        self.keep(producer, position::KEY.as_bytes(), &position).await?;
        kill_point("alerter_before_commit");
        producer.commit(&self.source, taken.next).await?;
        kill_point("alerter_after_commit");
        debug!(source = %self.source, next = taken.next, states = states.len(),
            notifications = alerts.len(), "committed");
        let metrics = &self.shared.metrics;
        metrics.transaction_seconds.observe(begun.elapsed().as_secs_f64());
        metrics.states_written_total.inc_by(states.len() as u64);
        for Alert { notification, .. } in &alerts {
            let rule = notification.data.rule.name();
            metrics.notifications_total.with_label_values(&[rule]).inc();
        }
        Ok(())
    }

    async fn notify(&self, producer: &TransactionalProducer, alert: &Alert) -> Result<(), Lost> {
        let mut headers = Headers::default();
        if let Some(place) = alert.place {
            headers.push(trace::HEADER, trace::tell("alert", place, SystemTime::now()).to_string());
        }
        let notification = &alert.notification;
        let value = serde_json::to_vec(notification).expect("a notification becomes JSON");
        let record = Outgoing {
            topic: &self.shared.notification_topic,
            partition: None,
            key: Some(notification.subject.as_bytes()),
            value: Some(&value),
            headers: &headers,
        };
        Ok(producer.send(&record).await?)
    }

    /// Writes a record of the state, which lies in the partition of the same number.
    async fn keep(
        &self,
        producer: &TransactionalProducer,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), Lost> {
        const NO_HEADERS: &Headers = &Headers(Vec::new());
        let record = Outgoing {
            topic: &self.shared.state_topic,
            partition: Some(self.source.partition),
            key: Some(key),
            value: Some(value),
            headers: NO_HEADERS,
        };
        Ok(producer.send(&record).await?)
    }

    fn count(&self, watch: &mut Watch, records: u64) {
        let (metrics, noticed) = (&self.shared.metrics, watch.take_noticed());
        metrics.records_consumed_total.inc_by(records);
        metrics.records_unreadable_total.inc_by(noticed.unreadable);
        metrics.events_late_total.inc_by(noticed.late);
        metrics.events_uncounted_total.inc_by(noticed.uncounted);
        metrics.windows_judged_total.inc_by(noticed.windows_judged);
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
