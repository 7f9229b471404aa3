//! Answers about what happened, from what the processor rolls up behind the judge: never older than the
//! events they are about, worked out once however many ask.

mod activity;
mod cache;
mod calendar;
mod dau;
mod funnel;
mod minutes;
mod now;
mod params;
mod plan;
mod question;
mod retention;
mod scope;
mod snapshot;
mod tally;
mod top_events;
mod top_objects;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::stats::BrokenCell;
use deadpool_postgres::{Pool, PoolError};
use fred::prelude::Client as RedisClient;
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::{OnceCell, Semaphore};
use tokio_postgres::NoTls;
use tracing::warn;

pub use self::cache::Answer;
use self::cache::Cache;
pub use self::calendar::{Period, RANGE};
pub use self::params::{FILTERS, Filter, Params};
pub use self::question::Question;
use self::question::dated;
use self::snapshot::Snapshot;
use self::top_objects::Top;
use crate::config::StatsConfig;

pub const LIMIT_DEFAULT: usize = 100;
pub const LIMIT_MAX: usize = 1_000;

/// Questions that are worked out at a time, each with a connection to Postgres; others wait.
const AT_WORK_MAX: usize = 4;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatsError {
    /// Ask for something else.
    #[error("{0}")]
    Unusable(String),
    /// Ask for less, or again.
    #[error("this takes too long to answer at the moment; narrow the range or the filters")]
    TooSlow,
    /// Ask again.
    #[error("Postgres cannot be reached at the moment")]
    Away,
}

impl From<tokio_postgres::Error> for StatsError {
    fn from(error: tokio_postgres::Error) -> Self {
        if error.code() == Some(&tokio_postgres::error::SqlState::QUERY_CANCELED) {
            return Self::TooSlow;
        }
        warn!("the statistics cannot be read: {error:#}");
        Self::Away
    }
}

impl From<PoolError> for StatsError {
    fn from(error: PoolError) -> Self {
        warn!("the statistics cannot be read: {error:#}");
        Self::Away
    }
}

impl From<BrokenCell> for StatsError {
    fn from(error: BrokenCell) -> Self {
        warn!("the statistics cannot be read: {error}");
        Self::Away
    }
}

type Awaited = Arc<OnceCell<Result<Answer, StatsError>>>;

pub struct Stats {
    pool: Pool,
    patience: Duration,
    cache: Cache,
    at_work: Semaphore,
    /// Answers that are being worked out, by version: who asks the same waits for them.
    flights: Mutex<HashMap<String, Awaited>>,
}

/// Somebody waits for an answer; the last one takes it off the list, also when nobody waits any more.
struct Flight<'a> {
    stats: &'a Stats,
    version: String,
    cell: Awaited,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut flights = self.stats.flights();
        // Let go of under the lock, or two that end together would each leave it to the other.
        drop(std::mem::take(&mut self.cell));
        if flights.get(&self.version).is_some_and(|it| Arc::strong_count(it) == 1) {
            flights.remove(&self.version);
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Counters<'a> {
    object_type: &'a str,
    object_id: &'a str,
    counts: BTreeMap<String, i64>,
}

impl Stats {
    pub fn new(config: StatsConfig, pool: Pool, redis: RedisClient) -> Self {
        Self {
            pool,
            patience: Duration::from_millis(config.stats_answer_ms_max.into()),
            cache: Cache::new(redis),
            at_work: Semaphore::new(AT_WORK_MAX),
            flights: Mutex::default(),
        }
    }

    /// The answer to a question: kept, being worked out, or worked out now.
    pub async fn answer(&self, question: &Question) -> Result<Answer, StatsError> {
        if let Some(answer) = self.counted_now(question).await {
            return Ok(answer);
        }
        let key = key(question);
        let version = self.version(question, &key).await?;
        if let Some(answer) = self.cache.find(&key, &version).await {
            return Ok(answer);
        }
        let flight = self.board(&version);
        let answer = flight.cell.get_or_init(async || {
            let json = self.work_out(question).await?.into();
            let answer = Answer { version: version.clone(), computed_at: Timestamp::now(), json };
            self.cache.keep(&key, &answer).await;
            Ok(answer)
        });
        answer.await.clone()
    }

    /// Joins those who wait for the same answer.
    fn board(&self, version: &str) -> Flight<'_> {
        let cell = self.flights().entry(version.to_owned()).or_default().clone();
        Flight { stats: self, version: version.to_owned(), cell }
    }

    /// Every counter of one object.
    pub async fn counters(
        &self,
        object_type: &str,
        object_id: &str,
    ) -> Result<Vec<u8>, StatsError> {
        let mut client = self.pool.get().await?;
        let snapshot = Snapshot::open(&mut client, self.patience).await?;
        let counts = snapshot.counters(object_type, object_id).await?.into_iter().collect();
        Ok(dated(snapshot.as_of, Counters { object_type, object_id, counts }))
    }

    /// What Redis has counted needs no keeping.
    async fn counted_now(&self, question: &Question) -> Option<Answer> {
        let Question::TopObjects(top) = question else { return None };
        let (object_type, event_type) = now::is_counted(top)?;
        let standing = now::Standing::read(&self.pool).await.ok()?;
        let redis = &self.cache.redis;
        let counted = now::top(redis, &standing, object_type, event_type, top.limit).await;
        let counted = counted.ok().flatten()?;
        let version = format!("{:x}", fingerprint(&format!("{counted:?}")));
        let json = dated(standing.as_of, Top::of(counted)).into();
        Some(Answer { version, computed_at: Timestamp::now(), json })
    }

    /// The answer's tag: what is asked, the generation of Postgres, and how far each source had come when
    /// it last added to one of the days the answer is about.
    async fn version(&self, question: &Question, key: &str) -> Result<String, StatsError> {
        let (from, to) = question.utc_days();
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(include_str!("read_version.sql")).await?;
        let row = client.query_one(&statement, &[&from, &to]).await?;
        let (generation, marks): (i64, i64) = (row.get(0), row.get(1));
        let asked = key.rsplit(':').next().unwrap_or_default();
        Ok(format!("{asked}-{generation:x}-{marks:x}"))
    }

    /// Cancelled in Postgres too when it takes too long.
    async fn work_out(&self, question: &Question) -> Result<Vec<u8>, StatsError> {
        let mut cancel = None;
        let work = async {
            let _place = self.at_work.acquire().await.expect("never closed");
            let mut client = self.pool.get().await?;
            cancel = Some(client.cancel_token());
            question.answer(&Snapshot::open(&mut client, self.patience).await?).await
        };
        let Ok(answer) = tokio::time::timeout(self.patience, work).await else {
            if let Some(cancel) = cancel
                && let Err(error) = cancel.cancel_query(NoTls).await
            {
                warn!("a query that took too long could not be cancelled: {error}");
            }
            return Err(StatsError::TooSlow);
        };
        answer
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<String, Awaited>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where an answer is kept; another release may answer in another form.
fn key(question: &Question) -> String {
    let question = format!("{} {question:?}", env!("CARGO_PKG_VERSION"));
    format!("tm:stats:{:032x}", fingerprint(&question))
}

fn fingerprint(text: &str) -> u128 {
    xxhash_rust::xxh3::xxh3_128(text.as_bytes())
}
