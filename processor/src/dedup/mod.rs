//! Takes out of a batch what is already stored: what this process stored last, a filter that guesses,
//! markers that know, a look-up for what stays in doubt. Nothing is dropped on a guess.

mod bloom;
mod recent;
mod seen;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::event::EventKey;
use common::failpoint::kill_point;
use deadpool_postgres::Pool;
use fred::prelude::Client as RedisClient;
use hashbrown::HashSet;
use jiff::Timestamp;
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::debug;
use uuid::Uuid;

use self::bloom::Generations;
pub use self::bloom::Place;
use self::recent::Recent;
use self::seen::{Answer, Seen};
use crate::batch::Batch;
use crate::config::{DedupConfig, Switch};
use crate::generation::Generation;
use crate::metrics::ProcessorMetrics;

/// What is known of a batch after its duplicates were taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Novelty {
    /// Every candidate is believed to be new.
    Likely,
    /// Some may be stored already.
    Doubtful,
}

/// The caches of this process, shared by all its partitions.
pub struct Dedup {
    recent: Mutex<Recent>,
    bloom: Option<Mutex<Generations>>,
    seen: Option<Seen>,
    pool: Pool,
    generation: Generation,
    metrics: ProcessorMetrics,
    lessons: (mpsc::Sender<Lesson>, AsyncMutex<mpsc::Receiver<Lesson>>),
}

/// Keys for Redis to remember.
struct Lesson {
    generation: i64,
    places: Vec<(EventKey, Place)>,
}

impl Dedup {
    /// Above this many suspects a look-up costs as much as letting the judge decide.
    const LOOKUP_MAX: usize = 1_000;
    /// Batches of ids that may wait for Redis.
    const LESSONS_MAX: usize = 64;

    pub fn new(
        config: DedupConfig,
        redis: RedisClient,
        pool: Pool,
        generation: Generation,
        metrics: ProcessorMetrics,
    ) -> Self {
        let recent = Mutex::new(Recent::new(config.dedup_recent_mib_max << 20));
        let bloom = (config.dedup_bloom == Switch::On).then(|| {
            Mutex::new(Generations::new(config.dedup_window_days, config.dedup_bloom_mib_max << 20))
        });
        let seen = (config.dedup_redis == Switch::On).then(|| Seen::new(redis, config));
        let (teacher, pupil) = mpsc::channel(Self::LESSONS_MAX);
        let lessons = (teacher, AsyncMutex::new(pupil));
        Self { recent, bloom, seen, pool, generation, metrics, lessons }
    }

    /// Moves candidates that are certainly stored to `seen`.
    pub async fn drop_seen(&self, batch: &mut Batch) -> Novelty {
        batch.distrust_seen(); // of an earlier attempt, perhaps under another generation
        batch.seen_under = self.generation.current();
        self.drop_recent(batch);
        let Some(suspects) = self.suspects(batch) else { return Novelty::Doubtful };
        if suspects.is_empty() {
            return Novelty::Likely;
        }
        let mut stored = self.ask_redis(batch.seen_under, &suspects).await;
        let in_doubt: Vec<_> =
            suspects.iter().map(|(key, _)| *key).filter(|key| !stored.contains(key)).collect();
        let settled =
            in_doubt.len() <= Self::LOOKUP_MAX && self.look_up(&in_doubt, &mut stored).await;
        if !stored.is_empty() {
            lock(&self.recent).insert(batch.seen_under, stored.iter().copied());
            batch.set_aside(|key| stored.contains(&key));
        }
        if settled { Novelty::Likely } else { Novelty::Doubtful }
    }

    /// Remembers keys that a committed transaction holds; only then may they be told to anyone.
    pub fn learn(&self, generation: i64, keys: &[EventKey]) {
        kill_point("seen_before_learn");
        if generation != self.generation.current() {
            return;
        }
        lock(&self.recent).insert(generation, keys.iter().copied());
        let Some(bloom) = &self.bloom else { return };
        let mut bloom = lock(bloom);
        let places = bloom.insert(keys, Timestamp::now());
        self.metrics.bloom_keys.set(bloom.len() as i64);
        // A full queue costs a look-up per id later, not more.
        let _forgotten_by_redis = self.lessons.0.try_send(Lesson { generation, places });
    }

    /// Tells Redis what was learnt, off the way of the batches.
    pub async fn teach_redis(self: Arc<Self>, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut lessons = self.lessons.1.lock().await;
        while let Some(Some(lesson)) = shutdown.run_until_cancelled(lessons.recv()).await {
            if let Some(seen) = &self.seen {
                seen.learn(lesson.generation, &lesson.places).await;
            }
        }
        Ok(())
    }

    fn drop_recent(&self, batch: &mut Batch) {
        let recent = lock(&self.recent);
        let generation = batch.seen_under;
        batch.set_aside(|key| recent.contains(generation, key));
        let tier = self.metrics.duplicates_total.with_label_values(&["recent"]);
        tier.inc_by(batch.seen.len() as u64);
    }

    /// Keys the filter knows, with the place where Redis would have them. None when there is no
    /// filter to ask.
    fn suspects(&self, batch: &Batch) -> Option<Vec<(EventKey, Place)>> {
        let bloom = lock(self.bloom.as_ref()?);
        let suspects = batch.candidates.iter();
        Some(suspects.filter_map(|it| Some((it.key, bloom.find(it.key)?))).collect())
    }

    async fn ask_redis(
        &self,
        generation: i64,
        suspects: &[(EventKey, Place)],
    ) -> HashSet<EventKey> {
        let Some(seen) = &self.seen else { return HashSet::new() };
        let (found, answer) = seen.find(generation, suspects).await;
        let label = match answer {
            Answer::InTime => "ok",
            Answer::Late => "late",
            Answer::Failed => "error",
        };
        self.metrics.seen_lookups_total.with_label_values(&[label]).inc();
        self.metrics.duplicates_total.with_label_values(&["redis"]).inc_by(found.len() as u64);
        found
    }

    /// Adds those keys that Postgres holds; says whether it could be asked.
    async fn look_up(&self, keys: &[EventKey], stored: &mut HashSet<EventKey>) -> bool {
        if keys.is_empty() {
            return true;
        }
        match self.stored_keys(keys).await {
            Ok(found) => {
                let tier = self.metrics.duplicates_total.with_label_values(&["lookup"]);
                tier.inc_by(found.len() as u64);
                stored.extend(found);
                true
            }
            Err(error) => {
                // The judge will meet the same trouble and knows how to wait for its end.
                debug!("the look-up of suspects failed: {error:#}");
                false
            }
        }
    }

    async fn stored_keys(&self, keys: &[EventKey]) -> anyhow::Result<Vec<EventKey>> {
        let keys: Vec<Uuid> = keys.iter().map(|key| Uuid::from(*key)).collect();
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(include_str!("find_stored_keys.sql")).await?;
        let rows = client.query(&statement, &[&keys]).await?;
        Ok(rows.iter().map(|row| EventKey::from(row.get::<_, Uuid>(0))).collect())
    }
}

/// Caches are whole after every step: a panic elsewhere leaves nothing to mend.
fn lock<T>(cache: &Mutex<T>) -> MutexGuard<'_, T> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}
