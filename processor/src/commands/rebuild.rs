//! `processor rebuild counters`: the Redis counters anew from Postgres, while ingestion goes on.

use std::process::ExitCode;

use anyhow::Context;
use common::{postgres, redis};
use fred::prelude::ClientLike;
use prometheus::Registry;

use crate::config::Config;
use crate::follow::counters::Counters;
use crate::follow::rebuild::rebuild;
use crate::generation::Generation;
use crate::metrics::ProcessorMetrics;

pub async fn counters(config: Config) -> anyhow::Result<ExitCode> {
    let pool = postgres::pool(&config.postgres, "rebuild")?;
    let generation = Generation::default();
    generation.observe(&*pool.get().await.context("connect to Postgres")?).await?;
    let redis = redis::client(&config.redis)?;
    redis.connect();
    redis.wait_for_connect().await.context("connect to Redis")?;
    let metrics = ProcessorMetrics::register(&Registry::new())?;
    rebuild(&Counters::new(redis, pool, generation, metrics), true).await?;
    println!("the counters are rebuilt");
    Ok(ExitCode::SUCCESS)
}
