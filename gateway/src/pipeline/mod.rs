//! Where events are on their way: how far behind each ratchet is, one event's steps, and what was rejected.

mod letters;
mod marks;
mod past;
mod report;
mod trace;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::config::KafkaConfig;
use common::kafka::GroupOffsets;
use common::postgres;
use deadpool_postgres::{Client, Pool, Transaction};
use fred::prelude::Client as RedisClient;
use tokio::sync::{Mutex, OnceCell};

pub use self::letters::{DeadLetterPage, DeadLetters};
use self::past::Past;
pub use self::report::Report;
pub use self::trace::Trace;
use crate::config::{PipelineConfig, StatsConfig};
use crate::redis::Impatient;
use crate::stats::StatsError;

/// Redis holds the marks of the counters; without its answer they are left out.
const REDIS_PATIENCE: Duration = Duration::from_millis(500);

pub struct Pipeline {
    pool: Pool,
    redis: Impatient,
    kafka: KafkaConfig,
    /// Of the processor's group: they are the marks of the relay.
    offsets: GroupOffsets,
    patience: Duration,
    /// What was found last, and the past it is compared with. Who asks meanwhile waits for the same.
    last: Mutex<Last>,
    seed: OnceCell<u64>,
}

#[derive(Default)]
struct Last {
    report: Option<(Instant, Arc<Report>)>,
    past: Past,
}

impl Pipeline {
    pub fn new(
        config: &PipelineConfig,
        stats: StatsConfig,
        kafka: &KafkaConfig,
        pool: Pool,
        redis: RedisClient,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            pool,
            redis: Impatient::new(redis, REDIS_PATIENCE),
            kafka: kafka.clone(),
            offsets: GroupOffsets::of(kafka, &config.consumer_group)?,
            patience: Duration::from_millis(stats.stats_answer_ms_max.into()),
            last: Mutex::default(),
            seed: OnceCell::new(),
        })
    }

    /// One view of Postgres, in which nothing may take longer than is waited for an answer.
    async fn snapshot<'a>(&self, client: &'a mut Client) -> Result<Transaction<'a>, StatsError> {
        let on = postgres::snapshot(client).await?;
        let ms = self.patience.as_millis().max(1);
        on.batch_execute(&format!("set local jit = off; set local statement_timeout = {ms}"))
            .await?;
        Ok(on)
    }
}
