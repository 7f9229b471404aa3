//! Counters in Redis: sub-ranges of offsets, each a full step of the ratchet, so that nothing is
//! ever half applied.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use common::failpoint::kill_point;
use common::keys;
use deadpool_postgres::{Pool, Transaction};
use fred::prelude::{Client, HashesInterface};
use fred::types::scripts::Script;
use jiff::civil::Date;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::read_back::{self, Stored};
use super::rebuild::rebuild;
use super::{FollowError, Follower, Memory, Share};
use crate::batch::{Deed, Judged, Source};
use crate::generation::Generation;
use crate::metrics::ProcessorMetrics;

/// The hash that holds epoch, state and marks; in the slot of the counters.
pub(super) const ANCHOR: &str = "tm:counters";

/// The counters of this installation, shared by all sources of this process.
pub struct Counters {
    pub(super) redis: Client,
    pub(super) pool: Pool,
    pub(super) generation: Generation,
    pub(super) metrics: ProcessorMetrics,
    count: Script,
    raise_day: Script,
    unshown_days: Mutex<BTreeSet<Date>>,
    days_changed: Notify,
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
    /// The generation is the first part of an epoch.
    pub fn generation(&self) -> Option<i64> {
        self.epoch.split('-').next()?.parse().ok()
    }
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
            unshown_days: Mutex::default(),
            days_changed: Notify::new(),
        }
    }

    pub(super) async fn standing(&self, source: i32) -> anyhow::Result<Option<Standing>> {
        let fields = vec!["epoch".to_owned(), "state".to_owned(), source.to_string()];
        let values: Vec<Option<String>> = self
            .redis
            .hmget(ANCHOR, fields)
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
        rebuild(self, false).await?;
        let standing = self.standing(source).await?.filter(usable);
        standing.context("the counters are being rebuilt elsewhere")
    }

    /// Says that the users of these days have changed in Postgres.
    pub fn days_changed(&self, days: impl IntoIterator<Item = Date>) {
        self.unshown_days.lock().unwrap_or_else(PoisonError::into_inner).extend(days);
        self.days_changed.notify_one();
    }

    /// Shows changed days in Redis as soon as it can be reached.
    pub async fn show_days(self: Arc<Self>, shutdown: CancellationToken) -> anyhow::Result<()> {
        while shutdown.run_until_cancelled(self.days_changed.notified()).await.is_some() {
            let days = std::mem::take(
                &mut *self.unshown_days.lock().unwrap_or_else(PoisonError::into_inner),
            );
            if let Err(error) = self.show(&days).await {
                debug!("redis does not show the users of these days yet: {error:#}");
                let pause = tokio::time::sleep(Duration::from_millis(500));
                if shutdown.run_until_cancelled(pause).await.is_some() {
                    self.days_changed(days);
                }
            }
        }
        Ok(())
    }

    async fn show(&self, days: &BTreeSet<Date>) -> anyhow::Result<()> {
        let Some(standing) = self.standing(0).await? else { return Ok(()) };
        let days: Vec<Date> = days.iter().copied().collect();
        let client = self.pool.get().await?;
        for row in client.query(include_str!("read_daily_active.sql"), &[&days]).await? {
            let (day, users): (Date, i64) = (row.get(0), row.get(1));
            let keys = vec![ANCHOR.to_owned(), keys::daily_users(day)];
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
    pub fn new(counters: Arc<Counters>, source: Arc<Source>, start_offset: i64) -> Self {
        Self { counters, source, start_offset, epoch: String::new() }
    }

    async fn apply_step(&self, step: &Step) -> Result<(), FollowError> {
        let mut keys = vec![ANCHOR.to_owned()];
        let mut args = vec![
            self.epoch.clone(),
            self.source.number.to_string(),
            self.start_offset.to_string(),
            step.range.start.to_string(),
            step.range.end.to_string(),
        ];
        for (counter, sum) in &step.sums {
            keys.extend([counter.clone(), sum.top.clone()]);
            args.extend([sum.count.to_string(), sum.member.clone()]);
        }
        let answer: (String, u64) = self
            .counters
            .count
            .evalsha_with_reload(&self.counters.redis, keys, args)
            .await
            .map_err(|error| FollowError::Unavailable(error.into()))?;
        match (answer.0.as_str(), answer.1) {
            ("applied", refused) => {
                self.counters.metrics.counters_refused_total.inc_by(refused);
                Ok(())
            }
            ("done", _) => Ok(()),
            (reason, _) => {
                info!(source = %self.source.partition, reason, from = step.range.start, "counters stand elsewhere");
                Err(FollowError::Moved)
            }
        }
    }
}

impl Follower for CounterFollower {
    const NAME: &'static str = "counters";
    type Share = Steps;

    fn gather(&self) -> Duration {
        Duration::ZERO
    }

    async fn mark(&mut self) -> Result<i64, FollowError> {
        let standing =
            self.counters.live(self.source.number).await.map_err(FollowError::Unavailable)?;
        self.epoch = standing.epoch;
        Ok(standing.mark.unwrap_or(self.start_offset))
    }

    async fn apply(&mut self, shares: &[Steps]) -> Result<i64, FollowError> {
        let epoch_generation = self.epoch.split('-').next().and_then(|n| n.parse().ok());
        let mut mark = None;
        for Steps { steps, generation, .. } in shares {
            if epoch_generation != Some(*generation) {
                // The epoch rests on another life of Postgres than this commit.
                return Err(FollowError::Moved);
            }
            for step in steps {
                self.apply_step(step).await?;
                mark = Some(step.range.end);
                kill_point("counters_between_steps");
            }
        }
        kill_point("counters_after");
        mark.ok_or(FollowError::Moved)
    }
}

/// Consecutive steps of the counters.
#[derive(Debug, PartialEq, Eq)]
pub struct Steps {
    generation: i64,
    events: usize,
    steps: Vec<Step>,
}

/// A sub-range of offsets with what it adds.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    range: Range<i64>,
    sums: BTreeMap<String, Sum>,
}

#[derive(Debug, PartialEq, Eq)]
struct Sum {
    count: i64,
    top: String,
    member: String,
}

impl Steps {
    /// Distinct counters of one step: an unchunked script of 5,000 blocked Redis for 87 ms (measured).
    const STEP_COUNTERS_MAX: usize = 256;

    /// One step over the range, to be filled.
    fn over(range: Range<i64>, generation: i64) -> Self {
        Self { generation, events: 0, steps: vec![Step { range, sums: BTreeMap::new() }] }
    }

    fn add(&mut self, deed: &Deed<'_>) {
        self.events += 1;
        let Some((object_type, id)) = deed.object else { return };
        let counter = keys::counter(object_type, id, deed.event_type);
        let step = self.last();
        if step.sums.len() == Self::STEP_COUNTERS_MAX && !step.sums.contains_key(&counter) {
            let end = std::mem::replace(&mut step.range.end, deed.offset);
            self.steps.push(Step { range: deed.offset..end, sums: BTreeMap::new() });
        }
        let sum = self.last().sums.entry(counter).or_insert_with(|| Sum {
            count: 0,
            top: keys::top(object_type, deed.event_type),
            member: keys::member(object_type, id),
        });
        sum.count += 1;
    }

    fn last(&mut self) -> &mut Step {
        self.steps.last_mut().expect("there is always a step")
    }
}

impl Share for Steps {
    const READ_BACK_STEP: i64 = 50_000;

    fn of(judged: &Arc<Judged>) -> Self {
        let mut steps = Self::over(judged.from..judged.to, judged.generation);
        judged.deeds().for_each(|deed| steps.add(&deed));
        steps
    }

    async fn read(on: &Transaction<'_>, of: &Stored) -> Result<Self, tokio_postgres::Error> {
        let mut steps = Self::over(of.range.clone(), of.generation);
        read_back::deeds(on, of, |deed| steps.add(deed)).await?;
        Ok(steps)
    }

    fn range(&self) -> Range<i64> {
        let first = self.steps.first().map_or(0, |it| it.range.start);
        first..self.steps.last().map_or(first, |it| it.range.end)
    }

    /// A mark lies between two steps, unless somebody else made others.
    fn since(mut self, offset: i64) -> Option<Self> {
        self.steps.retain(|step| step.range.end > offset);
        (self.range().start == offset).then_some(self)
    }

    fn events(&self) -> usize {
        self.events
    }

    fn size(&self) -> usize {
        let sums = self.steps.iter().flat_map(|it| &it.sums);
        sums.map(|(counter, it)| 128 + counter.len() + it.top.len() + it.member.len()).sum()
    }

    fn room(memory: &Memory) -> &Arc<Semaphore> {
        &memory.sums
    }
}
