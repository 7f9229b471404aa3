//! Counters in Redis: sub-ranges of offsets, each a full step of the ratchet, so that nothing is
//! ever half applied.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use common::failpoint::kill_point;
use common::keys;
use deadpool_postgres::Pool;
use fred::prelude::{Client, EventInterface, HashesInterface};
use fred::types::scripts::Script;
use futures_util::{StreamExt, stream};
use jiff::civil::Date;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::count::Call;
use super::digest::Digest;
use super::rebuild::rebuild;
use super::steps::{Step, steps};
use super::{FollowError, Follower};
use crate::batch::Source;
use crate::generation::Generation;
use crate::metrics::ProcessorMetrics;

/// The counters of this installation, shared by all sources of this process.
pub struct Counters {
    pub(super) redis: Client,
    pub(super) pool: Pool,
    pub(super) generation: Generation,
    pub(super) metrics: ProcessorMetrics,
    count: Script,
    raise_day: Script,
    unshown: Mutex<Unshown>,
    days_changed: Notify,
}

/// Days whose users Redis may not show as Postgres has them.
#[derive(Default)]
struct Unshown {
    days: BTreeSet<Date>,
    all: bool,
}

/// What Redis says about the counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub epoch: String,
    pub live: bool,
    /// Of the source asked for; none for one that came after the last rebuild.
    pub mark: Option<i64>,
}

impl Standing {
    pub fn generation(&self) -> Option<i64> {
        generation_of(&self.epoch)
    }
}

/// The generation is the first part of an epoch.
fn generation_of(epoch: &str) -> Option<i64> {
    epoch.split('-').next()?.parse().ok()
}

impl Counters {
    pub fn new(
        redis: Client,
        pool: Pool,
        generation: Generation,
        metrics: ProcessorMetrics,
    ) -> Self {
        Self {
            redis,
            pool,
            generation,
            metrics,
            count: Script::from_lua(include_str!("count.lua")),
            raise_day: Script::from_lua(include_str!("raise_day.lua")),
            unshown: Mutex::default(),
            days_changed: Notify::new(),
        }
    }

    pub(super) async fn standing(&self, source: i32) -> anyhow::Result<Option<Standing>> {
        let fields = vec!["epoch".to_owned(), "state".to_owned(), source.to_string()];
        let values: Vec<Option<String>> = self
            .redis
            .hmget(keys::COUNTERS, fields)
            .await
            .context("read the counters' epoch from redis")?;
        let mut values = values.into_iter();
        let (epoch, state, mark) = (values.next(), values.next(), values.next());
        Ok(epoch.flatten().map(|epoch| Standing {
            epoch,
            live: state.flatten().as_deref() == Some("live"),
            mark: mark.flatten().and_then(|mark| mark.parse().ok()),
        }))
    }

    /// The standing under a live epoch of this generation; rebuilds when there is none.
    pub(super) async fn live(&self, source: i32) -> anyhow::Result<Standing> {
        let usable = |it: &Standing| it.live && it.generation() == Some(self.generation.current());
        if let Some(standing) = self.standing(source).await?.filter(usable) {
            return Ok(standing);
        }
        let _perhaps_by_somebody_else = rebuild(self, false).await?;
        let standing = self.standing(source).await?.filter(usable);
        standing.context("the counters are being rebuilt elsewhere")
    }

    /// Says that the users of these days have changed in Postgres.
    pub fn days_changed(&self, days: impl IntoIterator<Item = Date>) {
        self.unshown(|unshown| unshown.days.extend(days));
        self.days_changed.notify_one();
    }

    /// Says that Redis may have lost what it showed last, or was never told.
    pub fn any_day_changed(&self) {
        self.unshown(|unshown| unshown.all = true);
        self.days_changed.notify_one();
    }

    fn unshown<T>(&self, change: impl FnOnce(&mut Unshown) -> T) -> T {
        change(&mut self.unshown.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Shows changed days in Redis as soon as it can be reached.
    pub async fn show_days(self: Arc<Self>, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut reconnected = self.redis.reconnect_rx();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = self.days_changed.notified() => {}
                // A Redis that comes again may be an older one: the marks of the counters tell that, not days.
                _some_server = reconnected.recv() => self.any_day_changed(),
            }
            let unshown = self.unshown(std::mem::take);
            if let Err(error) = self.show(&unshown).await {
                debug!("redis does not show the users of these days yet: {error:#}");
                let pause = tokio::time::sleep(Duration::from_millis(500));
                if shutdown.run_until_cancelled(pause).await.is_some() {
                    self.unshown(|it| it.all |= unshown.all);
                    self.days_changed(unshown.days);
                }
            }
        }
    }

    async fn show(&self, unshown: &Unshown) -> anyhow::Result<()> {
        let Some(standing) = self.standing(0).await? else { return Ok(()) };
        let days = (!unshown.all).then(|| unshown.days.iter().copied().collect::<Vec<Date>>());
        let client = self.pool.get().await?;
        for row in client.query(include_str!("read_daily_active.sql"), &[&days]).await? {
            let (day, users): (Date, i64) = (row.get(0), row.get(1));
            let keys = vec![keys::COUNTERS.to_owned(), keys::daily_users(day)];
            let args = vec![standing.epoch.clone(), users.to_string()];
            let shown: String = self.raise_day.evalsha_with_reload(&self.redis, keys, args).await?;
            anyhow::ensure!(shown != "stale", "the counters are being rebuilt");
        }
        Ok(())
    }
}

/// Counts one source.
pub struct CounterFollower {
    counters: Arc<Counters>,
    source: Arc<Source>,
    start_offset: i64,
    epoch: String,
}

impl CounterFollower {
    /// Scripts that Redis may have before it: it need not wait for us between two of them.
    const STEPS_ON_THEIR_WAY: usize = 4;

    pub fn new(counters: Arc<Counters>, source: Arc<Source>, start_offset: i64) -> Self {
        Self { counters, source, start_offset, epoch: String::new() }
    }

    /// Returns the mark after it.
    async fn apply_step(&self, digest: &Digest, step: &Step) -> Result<i64, FollowError> {
        let (source, start) = (self.source.number, self.start_offset);
        let (keys, args) = Call::new(&self.epoch, source, start, digest, step).parts();
        let answer: (String, u64) = self
            .counters
            .count
            .evalsha_with_reload(&self.counters.redis, keys, args)
            .await
            .map_err(|error| FollowError::Unavailable(error.into()))?;
        match (answer.0.as_str(), answer.1) {
            ("applied", refused) => {
                self.counters.metrics.counters_refused_total.inc_by(refused);
                Ok(step.range.end)
            }
            ("done", _) => Ok(step.range.end),
            (reason, _) => {
                info!(source = %self.source.partition, reason, from = step.range.start, "counters stand elsewhere");
                Err(FollowError::Moved)
            }
        }
    }
}

impl Follower for CounterFollower {
    const NAME: &'static str = "counters";
    // Nobody says that Redis was emptied, or has come again without its last writes.
    const LOOKS_EVERY: Option<Duration> = Some(Duration::from_secs(2));
    type Share = Arc<Digest>;

    fn gather(&self) -> Duration {
        Duration::ZERO
    }

    async fn mark(&mut self) -> Result<i64, FollowError> {
        let standing =
            self.counters.live(self.source.number).await.map_err(FollowError::Unavailable)?;
        self.epoch = standing.epoch;
        Ok(standing.mark.unwrap_or(self.start_offset))
    }

    async fn apply(&mut self, digests: &[Arc<Digest>]) -> Result<i64, FollowError> {
        let epoch_generation = generation_of(&self.epoch);
        let mut mark = None;
        for digest in digests {
            if epoch_generation != Some(digest.generation) {
                // The epoch rests on another life of Postgres than this commit.
                return Err(FollowError::Moved);
            }
            // On their way together, in order: one that fails leaves a gap for those behind it.
            let steps = steps(digest);
            let mut applying = Vec::with_capacity(steps.len());
            for step in &steps {
                applying.push(self.apply_step(digest, step));
            }
            let mut applying = stream::iter(applying).buffered(Self::STEPS_ON_THEIR_WAY);
            while let Some(applied) = applying.next().await {
                mark = Some(applied?);
                kill_point("counters_between_steps");
            }
        }
        kill_point("counters_after");
        mark.ok_or(FollowError::Moved)
    }
}
