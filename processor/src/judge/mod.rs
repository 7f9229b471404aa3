//! The judge: one transaction moves the ledger, claims the keys, stores the rows and the dead letters.

mod blockers;
mod encode;
mod error;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use common::event::EventKey;
use common::failpoint::kill_point;
use common::trace;
use deadpool_postgres::{Pool, Transaction};
use hashbrown::{HashMap, HashSet};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use tokio_postgres::types::Json;
use tracing::{info, warn};
use uuid::Uuid;

pub use self::blockers::watch_blockers;
pub use self::error::JudgeError;
use self::error::Refusal;
use crate::batch::{Batch, Candidate, DeadLetter, Judged, Source};
use crate::copy::copy;
use crate::dedup::Novelty;
use crate::metrics::{ProcessorMetrics, outcome};

/// Two ways to the same outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// COPY all keys; a stored one among them rolls everything back.
    Optimistic,
    /// Insert the keys that are new, then COPY the rows of the winners.
    Exact,
}

/// What a committed batch came to.
#[derive(Debug)]
pub struct Verdict {
    pub judged: Judged,
    /// Keys that Postgres holds now, whoever stored them.
    pub known: Vec<EventKey>,
}

/// What one transaction decided, apart from the events themselves: these stay in the batch until
/// it is certain that the decision holds.
#[derive(Debug)]
struct Decision {
    generation: i64,
    new: Claimed,
    dead: Vec<DeadLetter>,
}

/// Which candidates nobody had claimed before.
#[derive(Debug)]
enum Claimed {
    All(usize),
    Only(HashSet<EventKey>),
}

impl Claimed {
    fn contains(&self, key: EventKey) -> bool {
        match self {
            Self::All(_) => true,
            Self::Only(keys) => keys.contains(&key),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::All(count) => *count,
            Self::Only(keys) => keys.len(),
        }
    }
}

/// Judges the batches of one source under one owner epoch.
pub struct Judge {
    pool: Pool,
    source: Arc<Source>,
    owner_epoch: i64,
    metrics: ProcessorMetrics,
    optimism: Optimism,
    /// What a transaction decided whose COMMIT was not answered.
    in_doubt: Option<Decision>,
}

impl Judge {
    pub fn new(
        pool: Pool,
        source: Arc<Source>,
        owner_epoch: i64,
        metrics: ProcessorMetrics,
    ) -> Self {
        Self { pool, source, owner_epoch, metrics, optimism: Optimism::default(), in_doubt: None }
    }

    /// Commits a batch. After [`JudgeError::Unavailable`] the same batch is to be given again: it
    /// is then found out whether it was committed.
    pub async fn commit(
        &mut self,
        batch: &mut Batch,
        novelty: Novelty,
    ) -> Result<Verdict, JudgeError> {
        kill_point("before_judge_begin");
        let mut way = self.optimism.way(novelty);
        let started = Instant::now();
        let mut leaves_added = false;
        loop {
            if let Some(decision) = self.settle_doubt(batch).await? {
                return Ok(self.conclude(batch, decision, started));
            }
            match self.attempt(batch, way).await {
                Ok(decision) => {
                    self.optimism.learn(way);
                    self.metrics.batches_judged_total.with_label_values(&[way.label()]).inc();
                    return Ok(self.conclude(batch, decision, started));
                }
                Err(Refusal::KeyConflict) => {
                    self.metrics.optimistic_conflicts_total.inc();
                    self.optimism.disappoint();
                    way = Way::Exact;
                }
                Err(Refusal::StaleCaches) => {
                    batch.distrust_seen();
                    way = Way::Exact;
                }
                Err(Refusal::Row(error)) => self.convict_poison(batch, error).await?,
                Err(Refusal::NoLeaf) if leaves_added => return Err(clocks_differ()),
                Err(Refusal::NoLeaf) => {
                    ensure_leaves(&self.pool).await?;
                    leaves_added = true;
                }
                Err(Refusal::Judge(error)) => return Err(error),
            }
        }
    }

    /// Whether the last COMMIT was not answered. The same batch then has to be given again, as it is.
    pub fn is_in_doubt(&self) -> bool {
        self.in_doubt.is_some()
    }

    /// One transaction from the ledger to COMMIT.
    async fn attempt(&mut self, batch: &Batch, way: Way) -> Result<Decision, Refusal> {
        let mut client = self.pool.get().await.map_err(JudgeError::from)?;
        let transaction = client.transaction().await?;
        let generation = self.advance_ledger(&transaction, batch).await?;
        if generation != batch.seen_under && !batch.seen.is_empty() {
            return Err(Refusal::StaleCaches);
        }
        kill_point("judge_after_ledger");
        let today = today();
        let new = claim_keys(&transaction, &batch.candidates, way, today).await?;
        kill_point("judge_after_keys");
        let winners: Vec<_> = batch.candidates.iter().filter(|it| new.contains(it.key)).collect();
        store_events(&transaction, &self.source, &winners, today).await?;
        let dead = store_dead_letters(&transaction, &self.source, &batch.dead).await?;
        let decision = Decision { generation, new, dead };
        self.account(&transaction, batch, &decision).await?;
        kill_point("judge_before_commit");
        match transaction.commit().await {
            Ok(()) => {
                kill_point("judge_after_commit");
                Ok(decision)
            }
            Err(error) => {
                self.in_doubt = Some(decision);
                Err(error.into())
            }
        }
    }

    async fn advance_ledger(&self, on: &Transaction<'_>, batch: &Batch) -> Result<i64, Refusal> {
        let statement = on.prepare_cached(include_str!("advance_ledger.sql")).await?;
        let args: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&self.source.number, &self.owner_epoch, &batch.from, &batch.to];
        Ok(on.query_one(&statement, &args).await?.get(0))
    }

    async fn account(
        &self,
        on: &Transaction<'_>,
        batch: &Batch,
        decision: &Decision,
    ) -> Result<(), Refusal> {
        let statement = on.prepare_cached(include_str!("account_batch.sql")).await?;
        let witness = batch.witness;
        on.execute(
            &statement,
            &[
                &self.source.number,
                &(batch.consumed as i64),
                &(decision.new.len() as i64),
                &(duplicates(batch, decision) as i64),
                &(decision.dead.len() as i64),
                &batch.skipped(),
                &witness.map(|it| it.offset),
                &witness.map(|it| it.timestamp_ms),
                &witness.map(|it| it.hash),
            ],
        )
        .await?;
        Ok(())
    }

    /// After a COMMIT without an answer: what the ledger says. The row is read `for update`, since
    /// a plain read does not wait for a commit that is still on its way (tried).
    async fn settle_doubt(&mut self, batch: &Batch) -> Result<Option<Decision>, JudgeError> {
        if self.in_doubt.is_none() {
            return Ok(None);
        }
        let client = self.pool.get().await?;
        let row = client
            .query_one(include_str!("read_ledger_for_update.sql"), &[&self.source.number])
            .await?;
        let (epoch, next): (i64, i64) = (row.get(0), row.get(1));
        let decision = self.in_doubt.take();
        let source = &self.source.partition;
        match (epoch == self.owner_epoch, next) {
            (true, next) if next == batch.to => {
                info!(%source, to = next, "the unanswered commit had succeeded");
                Ok(decision)
            }
            (true, next) if next == batch.from => {
                info!(%source, from = next, "the unanswered commit had not happened");
                Ok(None)
            }
            _ => Err(JudgeError::Fenced),
        }
    }

    /// Finds the one row that Postgres refuses and makes it a dead letter.
    async fn convict_poison(
        &self,
        batch: &mut Batch,
        error: tokio_postgres::Error,
    ) -> Result<(), JudgeError> {
        let all: Vec<&Candidate> = batch.candidates.iter().collect();
        let mut suspects: &[&Candidate] = &all;
        while suspects.len() > 1 {
            let (left, right) = suspects.split_at(suspects.len() / 2);
            suspects = if self.refusal_of(left).await?.is_some() { left } else { right };
        }
        let Some(poison) = suspects.first() else { return Err(JudgeError::Stuck(error)) };
        let Some(reason) = self.refusal_of(suspects).await? else {
            return Err(JudgeError::Stuck(error));
        };
        let offset = poison.offset;
        warn!(source = %self.source.partition, offset, reason, "postgres refuses a row");
        batch.convict(offset, "row_refused", &reason);
        Ok(())
    }

    /// Why Postgres refuses some row among these, tried in a transaction that never commits.
    async fn refusal_of(&self, rows: &[&Candidate]) -> Result<Option<String>, JudgeError> {
        let mut client = self.pool.get().await?;
        let transaction = client.transaction().await?;
        let tried = store_events(&transaction, &self.source, rows, today()).await;
        match tried {
            Ok(()) => Ok(None),
            Err(Refusal::Row(error)) => Ok(Some(error::describe(&error))),
            Err(Refusal::Judge(error)) => Err(error),
            Err(Refusal::KeyConflict | Refusal::StaleCaches | Refusal::NoLeaf) => Ok(None),
        }
    }

    /// The decision holds: the events leave the batch.
    fn conclude(&self, batch: &mut Batch, decision: Decision, started: Instant) -> Verdict {
        let finished = |label: &str, count: usize| {
            self.metrics.events_finished_total.with_label_values(&[label]).inc_by(count as u64);
        };
        finished(outcome::STORED, decision.new.len());
        finished(outcome::DUPLICATE, duplicates(batch, &decision));
        finished(outcome::DEAD_LETTERED, decision.dead.len());
        for letter in &decision.dead {
            let code = crate::metrics::dead_letter_code(&letter.code);
            self.metrics.dead_letters_total.with_label_values(&[code]).inc();
        }
        self.metrics.judge_seconds.observe(started.elapsed().as_secs_f64());
        let Decision { generation, new, dead } = decision;
        let known = batch.candidates.iter().map(|it| it.key).collect();
        let mut stored = std::mem::take(&mut batch.candidates);
        stored.retain(|it| new.contains(it.key));
        tell_ways(&mut stored, started);
        let source = self.source.clone();
        let (from, to) = (batch.from, batch.to);
        Verdict { known, judged: Judged { source, from, to, generation, stored, dead } }
    }
}

/// Tells of those whose way is told that they are stored now.
fn tell_ways(stored: &mut [Candidate], started: Instant) {
    for row in stored {
        if let Some(place) = &mut row.trace {
            *place = trace::tell("judge", *place, SystemTime::now() - started.elapsed());
        }
    }
}

/// Records that were stored before, by whatever they were recognised.
fn duplicates(batch: &Batch, decision: &Decision) -> usize {
    batch.copies.len() + batch.seen.len() + batch.candidates.len() - decision.new.len()
}

/// Leaves are made for the days that Postgres has before it.
fn clocks_differ() -> JudgeError {
    JudgeError::Unavailable(anyhow::anyhow!(
        "`events` has no leaf for {}, the day of this machine's clock, and Postgres makes none: set the clocks",
        today()
    ))
}

/// Creates the leaves of `events` for the days ahead.
pub async fn ensure_leaves(pool: &Pool) -> Result<(), JudgeError> {
    pool.get().await?.query("select ensure_event_leaves(7)", &[]).await?;
    Ok(())
}

/// Always in key order: two batches then wait for each other
/// instead of deadlocking.
async fn claim_keys(
    on: &Transaction<'_>,
    candidates: &[Candidate],
    way: Way,
    today: Date,
) -> Result<Claimed, Refusal> {
    let mut keys: Vec<EventKey> = candidates.iter().map(|it| it.key).collect();
    keys.sort_unstable();
    if keys.is_empty() {
        return Ok(Claimed::All(0));
    }
    match way {
        Way::Optimistic => {
            copy(on, include_str!("copy_keys.sql"), encode::keys(&keys, today)).await?;
            Ok(Claimed::All(keys.len()))
        }
        Way::Exact => {
            let keys: Vec<Uuid> = keys.into_iter().map(Uuid::from).collect();
            let statement = on.prepare_cached(include_str!("claim_keys.sql")).await?;
            let rows = on.query(&statement, &[&keys, &today]).await?;
            let keys = rows.iter().map(|row| EventKey::from(row.get::<_, Uuid>(0)));
            Ok(Claimed::Only(keys.collect()))
        }
    }
}

async fn store_events(
    on: &Transaction<'_>,
    source: &Source,
    rows: &[&Candidate],
    today: Date,
) -> Result<(), Refusal> {
    if rows.is_empty() {
        return Ok(());
    }
    Ok(copy(on, include_str!("copy_events.sql"), encode::events(source, rows, today)).await?)
}

/// Returns the letters with the numbers they got.
async fn store_dead_letters(
    on: &Transaction<'_>,
    source: &Source,
    dead: &[DeadLetter],
) -> Result<Vec<DeadLetter>, Refusal> {
    let mut letters = dead.to_vec();
    letters.sort_by_key(|letter| letter.offset);
    if letters.is_empty() {
        return Ok(letters);
    }
    let statement = on.prepare_cached(include_str!("store_dead_letters.sql")).await?;
    let all = &letters;
    let offsets: Vec<i64> = all.iter().map(|it| it.offset).collect();
    let rows = on
        .query(
            &statement,
            &[
                &source.number,
                &source.partition.topic,
                &source.partition.partition,
                &offsets,
                &all.iter().map(|it| it.key.as_deref()).collect::<Vec<_>>(),
                &all.iter().map(|it| it.value.as_deref()).collect::<Vec<_>>(),
                &all.iter().map(|it| Json(headers_json(it))).collect::<Vec<_>>(),
                &all.iter().map(|it| storable(&it.code)).collect::<Vec<_>>(),
                &all.iter().map(|it| storable(&it.detail)).collect::<Vec<_>>(),
                &all.iter().map(|it| storable(&it.pointer)).collect::<Vec<_>>(),
                &all.iter().map(|it| it.received_at).collect::<Vec<_>>(),
            ],
        )
        .await?;
    let ids: HashMap<i64, i64> = rows.iter().map(|row| (row.get(1), row.get(0))).collect();
    for letter in &mut letters {
        letter.id = ids.get(&letter.offset).copied();
    }
    Ok(letters)
}

fn headers_json(letter: &DeadLetter) -> Vec<(String, Option<String>)> {
    let encode = |value: &Vec<u8>| BASE64.encode(value);
    letter
        .headers
        .0
        .iter()
        .map(|(name, value)| (name.clone(), value.as_ref().map(encode)))
        .collect()
}

/// Text as Postgres takes it: whatever a producer put into a header, NUL is not text.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn today() -> Date {
    Timestamp::now().to_zoned(TimeZone::UTC).date()
}

impl Way {
    fn label(self) -> &'static str {
        match self {
            Self::Optimistic => "optimistic",
            Self::Exact => "exact",
        }
    }
}

/// Whether the optimistic way is worth trying. After a conflict the next batches go the exact way,
/// each further conflict doubling their number: copies in flight in another partition come in swarms.
#[derive(Debug, Default)]
struct Optimism {
    exact_left: u32,
    penalty: u32,
}

impl Optimism {
    const PENALTY_MAX: u32 = 64;

    fn way(&self, novelty: Novelty) -> Way {
        if self.exact_left > 0 || novelty == Novelty::Doubtful {
            return Way::Exact;
        }
        Way::Optimistic
    }

    fn disappoint(&mut self) {
        self.penalty = (self.penalty * 2).clamp(4, Self::PENALTY_MAX);
        self.exact_left = self.penalty;
    }

    fn learn(&mut self, way: Way) {
        match way {
            Way::Optimistic => self.penalty /= 2,
            Way::Exact => self.exact_left = self.exact_left.saturating_sub(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_sends_the_next_batches_the_exact_way() {
        let mut optimism = Optimism::default();
        assert_eq!(optimism.way(Novelty::Likely), Way::Optimistic);
        optimism.disappoint();
        for _ in 0..4 {
            assert_eq!(optimism.way(Novelty::Likely), Way::Exact);
            optimism.learn(Way::Exact);
        }
        assert_eq!(optimism.way(Novelty::Likely), Way::Optimistic);
    }

    #[test]
    fn doubt_goes_the_exact_way() {
        assert_eq!(Optimism::default().way(Novelty::Doubtful), Way::Exact);
    }
}
