//! Takes a partition and gives it up: ledger, checks, relay fence; in between, batch after batch.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use common::admin::Readiness;
use common::kafka::{
    GroupOffsets, KafkaError, PartitionReader, Partitions, RecordBatch, TopicPartition,
    is_offset_reset, topic_id,
};
use deadpool_postgres::Pool;
use futures_util::FutureExt;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::batch::{Batch, Source, Witness};
use crate::config::Config;
use crate::dedup::Dedup;
use crate::follow::counters::{CounterFollower, Counters};
use crate::follow::dictionary::Dictionaries;
use crate::follow::relay::{Relay, RelayTopics};
use crate::follow::rollups::Rollups;
use crate::follow::{Feeds, FollowError, Memory, follow};
use crate::generation::Generation;
use crate::judge::{Judge, JudgeError};
use crate::lag;
use crate::metrics::ProcessorMetrics;
use crate::pipeline::Pipeline;
use crate::reminder::Reminder;

/// What all partitions of this process share.
pub struct Shared {
    pub config: Config,
    pub pool: Pool,
    pub offsets: GroupOffsets,
    pub relay: RelayTopics,
    pub dedup: Arc<Dedup>,
    pub counters: Arc<Counters>,
    pub dictionaries: Arc<Dictionaries>,
    pub generation: Generation,
    pub memory: Memory,
    pub metrics: ProcessorMetrics,
    pub readiness: Readiness,
    pub seed: u64,
}

/// Why a partition is no longer judged here.
#[derive(Debug, thiserror::Error)]
enum HoldError {
    /// Somebody else took it.
    #[error("another owner took this partition")]
    Fenced,
    /// Wait and take it again.
    #[error("a server it needs is unavailable")]
    Unavailable(#[source] anyhow::Error),
    /// Going on could break the promise: an operator has to decide.
    #[error("{0}")]
    Halted(String),
}

/// The partition's row in the ledger, as its new owner found it.
struct Taken {
    source: Arc<Source>,
    owner_epoch: i64,
    start_offset: i64,
    next_offset: i64,
    witness: Option<Witness>,
}

/// Judges one partition until it is told to stop. Fenced while Kafka still assigns it to us, it is
/// taken again after a jittered pause; halted, it waits for the operator.
pub async fn run(
    shared: Arc<Shared>,
    partitions: Partitions,
    source: TopicPartition,
    stop: CancellationToken,
) {
    let mut reminder = Reminder::default();
    while !stop.is_cancelled() {
        // A panic would end this partition alone, without a word.
        let held =
            AssertUnwindSafe(hold(&shared, &partitions, &source, &stop)).catch_unwind().await;
        let panicked = |_| {
            let _not_opened = partitions.release([&source]);
            Err(HoldError::Unavailable(anyhow::anyhow!("its task has panicked")))
        };
        let pause = match held.unwrap_or_else(panicked) {
            Ok(()) => return,
            Err(HoldError::Fenced) => {
                info!(%source, "fenced by another owner");
                Duration::from_millis(500 + u64::from(jitter_ms()))
            }
            Err(HoldError::Unavailable(cause)) => {
                if reminder.is_due(Instant::now()) {
                    warn!(%source, "the partition waits: {cause:#}");
                }
                Duration::from_secs(1)
            }
            Err(HoldError::Halted(reason)) => {
                error!(%source, "the partition is halted: {reason}");
                shared.readiness.set("partitions", Err(format!("{source} is halted: {reason}")));
                stop.cancelled().await;
                return;
            }
        };
        stop.run_until_cancelled(sleep(pause)).await;
    }
}

async fn hold(
    shared: &Arc<Shared>,
    partitions: &Partitions,
    source: &TopicPartition,
    stop: &CancellationToken,
) -> Result<(), HoldError> {
    let taken = take(shared, source).await?;
    let relay = Relay::fence(
        shared.relay.clone(),
        shared.offsets.clone(),
        shared.pool.clone(),
        taken.source.clone(),
        taken.start_offset,
    );
    let relay = relay.await.map_err(on_follow_error)?;
    let open_at = taken.witness.map_or(taken.next_offset, |it| it.offset);
    let reader = partitions.open(source, open_at).context("open the partition");
    let reader = reader.map_err(HoldError::Unavailable)?;
    info!(%source, offset = taken.next_offset, epoch = taken.owner_epoch, "partition taken");
    shared.metrics.partitions_owned.inc();
    let held = work(shared, taken, relay, reader, stop).await;
    shared.metrics.partitions_owned.dec();
    // The reader is gone: what is fetched from now on would have nobody to take it.
    if let Err(error) = partitions.release([source]) {
        warn!(%source, %error, "the partition could not be released");
    }
    held
}

/// Reads and judges, while the followers follow.
async fn work(
    shared: &Arc<Shared>,
    taken: Taken,
    relay: Relay,
    reader: PartitionReader,
    stop: &CancellationToken,
) -> Result<(), HoldError> {
    let mut feeds = Feeds::new(taken.next_offset, shared.memory.clone(), shared.metrics.clone());
    let abandon = CancellationToken::new();
    let mut followers = start_followers(shared, &taken, relay, &mut feeds, &abandon);
    let source = &taken.source.partition;
    let lag = lag::report_ledger(&shared.metrics, &shared.offsets, source, feeds.judged_to());
    let judge = Judge::new(
        shared.pool.clone(),
        taken.source.clone(),
        taken.owner_epoch,
        shared.metrics.clone(),
    );
    let pipeline = Pipeline {
        source: taken.source.clone(),
        seed: shared.seed,
        dedup: shared.dedup.clone(),
        judge,
        feeds,
        metrics: shared.metrics.clone(),
    };
    let judged = tokio::select! {
        judged = judge_batches(shared, &taken, pipeline, reader, stop) => judged,
        Some(ended) = followers.join_next() => {
            abandon.cancel();
            Err(follower_ended(shared, &taken, ended.map_err(anyhow::Error::from)).await)
        }
        never = lag => match never {},
    };
    if judged.is_ok() {
        // The pipeline is gone and its feeds with it: followers end when they have caught up.
        let drained = timeout(Duration::from_secs(5), drain(&mut followers)).await;
        if drained.is_err() {
            info!(source = %taken.source.partition, "followers have not caught up; who comes next does");
        }
    }
    abandon.cancel();
    drain(&mut followers).await;
    judged
}

fn start_followers(
    shared: &Arc<Shared>,
    taken: &Taken,
    relay: Relay,
    feeds: &mut Feeds,
    abandon: &CancellationToken,
) -> JoinSet<Result<(), FollowError>> {
    let source = &taken.source;
    let pool = &shared.pool;
    let counters =
        CounterFollower::new(shared.counters.clone(), source.clone(), taken.start_offset);
    let rollups = Rollups::new(
        pool.clone(),
        source.clone(),
        Duration::from_millis(shared.config.follow.rollup_gather_ms),
        shared.dictionaries.clone(),
        Some(shared.counters.clone()),
    );
    let mut followers = JoinSet::new();
    followers.spawn(follow(counters, feeds.feed(source, pool), abandon.clone()));
    followers.spawn(follow(rollups, feeds.feed(source, pool), abandon.clone()));
    followers.spawn(follow(relay, feeds.feed(source, pool), abandon.clone()));
    followers
}

async fn drain(followers: &mut JoinSet<Result<(), FollowError>>) {
    while followers.join_next().await.is_some() {}
}

async fn follower_ended(
    shared: &Shared,
    taken: &Taken,
    ended: anyhow::Result<Result<(), FollowError>>,
) -> HoldError {
    match ended {
        Ok(Err(FollowError::Ahead { mark, ledger })) => {
            // Who slept may have been followed by another owner, whose marks these are.
            match is_lost(shared, taken, mark).await {
                Ok(true) => {}
                Ok(false) => return HoldError::Fenced,
                Err(error) => return HoldError::Unavailable(error),
            }
            raise_generation(shared).await;
            HoldError::Halted(format!(
                "a follower's mark {mark} is ahead of the ledger {ledger}: Postgres has lost what \
                 it had committed. Restore a complete database, or rebuild what follows from it"
            ))
        }
        Ok(Err(error)) => on_follow_error(error),
        Ok(Ok(())) => HoldError::Unavailable(anyhow::anyhow!("a follower ended early")),
        Err(error) => HoldError::Unavailable(error),
    }
}

/// Whether Postgres itself stands before a mark, under this owner still.
async fn is_lost(shared: &Shared, taken: &Taken, mark: i64) -> anyhow::Result<bool> {
    let sql = "select owner_epoch, next_offset from consumer_ledger where source = $1";
    let row = shared.pool.get().await?.query_one(sql, &[&taken.source.number]).await?;
    Ok(row.get::<_, i64>(0) == taken.owner_epoch && row.get::<_, i64>(1) < mark)
}

async fn raise_generation(shared: &Shared) {
    let raised = async {
        let client = shared.pool.get().await?;
        shared.generation.raise(&client).await
    };
    if let Err(error) = raised.await {
        warn!("the generation could not be raised: {error:#}");
    }
}

async fn judge_batches(
    shared: &Shared,
    taken: &Taken,
    mut pipeline: Pipeline,
    mut reader: PartitionReader,
    stop: &CancellationToken,
) -> Result<(), HoldError> {
    let limits = shared.config.batch.read_limits();
    let mut unproven = taken.witness;
    while let Some(read) = stop.run_until_cancelled(reader.read(limits)).await {
        let Some(mut records) = read.or_else(|error| on_read_error(taken, &error))? else {
            continue;
        };
        if let Some(witness) = unproven.take() {
            prove(&mut records, witness, taken)?;
            reader.skip_to(taken.next_offset);
        }
        if records.to <= records.from {
            continue;
        }
        let mut batch = pipeline.receive(records);
        if !judge_one(&mut pipeline, &mut batch, stop).await? {
            break;
        }
    }
    Ok(())
}

/// Gives one batch to the judge until it is committed; false when told to stop before that.
async fn judge_one(
    pipeline: &mut Pipeline,
    batch: &mut Batch,
    stop: &CancellationToken,
) -> Result<bool, HoldError> {
    let mut reminder = Reminder::default();
    loop {
        match pipeline.process(batch).await {
            Ok(()) => return Ok(true),
            Err(JudgeError::Fenced) => return Err(HoldError::Fenced),
            Err(JudgeError::Unavailable(cause)) if reminder.is_due(Instant::now()) => {
                warn!(source = %pipeline.source.partition, "the batch waits: {cause:#}");
            }
            Err(JudgeError::Stuck(cause)) if reminder.is_due(Instant::now()) => {
                error!(source = %pipeline.source.partition, "the batch cannot be stored: {}",
                       anyhow::Error::from(cause));
            }
            Err(JudgeError::Unavailable(_) | JudgeError::Stuck(_)) => {}
        }
        if stop.run_until_cancelled(sleep(Duration::from_millis(500))).await.is_none() {
            return Ok(false);
        }
    }
}

/// The first record delivered must be the last one judged: else this is another log.
fn prove(records: &mut RecordBatch, witness: Witness, taken: &Taken) -> Result<(), HoldError> {
    let same = records.records.first().is_some_and(|first| Witness::of(first) == witness);
    if !same {
        return Err(HoldError::Halted(format!(
            "the record at offset {} is not the one that was judged: the topic was re-created or \
             restored. Decide with `processor ledger`",
            witness.offset
        )));
    }
    records.records.retain(|record| record.offset >= taken.next_offset);
    records.from = taken.next_offset;
    records.to = records.to.max(taken.next_offset);
    Ok(())
}

fn on_read_error(taken: &Taken, error: &KafkaError) -> Result<Option<RecordBatch>, HoldError> {
    if is_offset_reset(error) {
        // Taken again, it is seen whether that is what was to be judged, or the last record that was.
        let error = anyhow::Error::from(error.clone());
        return Err(HoldError::Unavailable(
            error.context("the log no longer holds what was asked for"),
        ));
    }
    warn!(source = %taken.source.partition, %error, "reading goes on after an error");
    Ok(None)
}

fn on_follow_error(error: FollowError) -> HoldError {
    match error {
        FollowError::Fenced => HoldError::Fenced,
        other => HoldError::Unavailable(other.into()),
    }
}

/// Takes the ledger row and checks that it and the log belong together.
async fn take(shared: &Shared, partition: &TopicPartition) -> Result<Taken, HoldError> {
    let unavailable = HoldError::Unavailable;
    let kafka = &shared.config.kafka;
    let id = topic_id(kafka, &partition.topic).await.map_err(unavailable)?;
    let watermarks = async || {
        let marks = shared.offsets.watermarks(partition).await.context("ask for the watermarks");
        marks.map_err(unavailable)
    };
    let low = watermarks().await?.low;
    let (taken, known_id) = take_row(shared, partition, id, low).await.map_err(unavailable)?;
    // Asked again: until the row was ours, another owner may have judged what came meanwhile.
    let marks = watermarks().await?;
    let next = taken.next_offset;
    if known_id != id {
        return Err(HoldError::Halted(format!(
            "the topic was re-created (id {id}, the ledger knows {known_id}): its offsets are other \
             records. Decide with `processor ledger`"
        )));
    }
    if next > marks.high {
        return Err(HoldError::Halted(format!(
            "the ledger stands at {next}, the log ends at {}: the log has lost a tail",
            marks.high
        )));
    }
    if next < marks.low {
        return Err(HoldError::Halted(format!(
            "the ledger stands at {next}, the log begins at {}: records were deleted before they \
             were judged",
            marks.low
        )));
    }
    let witness = taken.witness.filter(|it| it.offset >= marks.low);
    Ok(Taken { witness, ..taken })
}

async fn take_row(
    shared: &Shared,
    partition: &TopicPartition,
    topic_id: uuid::Uuid,
    low: i64,
) -> anyhow::Result<(Taken, uuid::Uuid)> {
    let client = shared.pool.get().await?;
    let row = client
        .query_one(
            include_str!("take_ledger.sql"),
            &[&partition.topic, &partition.partition, &topic_id, &low],
        )
        .await
        .context("take the ledger row")?;
    let witness =
        match (row.get("witness_offset"), row.get("witness_timestamp_ms"), row.get("witness_hash"))
        {
            (Some(offset), Some(timestamp_ms), Some(hash)) => {
                Some(Witness { offset, timestamp_ms, hash })
            }
            _ => None,
        };
    let source = Source {
        number: row.get("source"),
        incarnation: row.get("incarnation"),
        partition: partition.clone(),
        format: shared.config.format_of(&partition.topic),
    };
    let taken = Taken {
        source: Arc::new(source),
        owner_epoch: row.get("owner_epoch"),
        start_offset: row.get("start_offset"),
        next_offset: row.get("next_offset"),
        witness,
    };
    Ok((taken, row.get("topic_id")))
}

/// Two owners that fence each other must not do so in step.
fn jitter_ms() -> u16 {
    let random = uuid::Uuid::new_v4().as_u128();
    u16::try_from(random % 1_000).expect("below 1,000")
}
