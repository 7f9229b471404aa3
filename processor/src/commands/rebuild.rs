//! `processor rebuild`: the Redis counters or the statistics anew from Postgres, while ingestion goes on.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use common::config::PostgresConfig;
use common::{postgres, redis};
use fred::prelude::ClientLike;
use prometheus::Registry;
use tokio::time::timeout;

use crate::config::Config;
use crate::follow::counters::Counters;
use crate::follow::dictionary::Dictionaries;
use crate::follow::rebuild::rebuild;
use crate::follow::rollups::Rollups;
use crate::follow::statistics;
use crate::generation::Generation;
use crate::metrics::ProcessorMetrics;

const CONNECT_WITHIN: Duration = Duration::from_secs(10);

pub async fn counters(config: Config) -> anyhow::Result<ExitCode> {
    let pool = postgres::pool(&config.postgres, "rebuild")?;
    let generation = Generation::default();
    generation.observe(&*pool.get().await.context("connect to Postgres")?).await?;
    let redis = redis::client(&config.redis)?;
    redis.connect();
    let connected = timeout(CONNECT_WITHIN, redis.wait_for_connect()).await;
    connected.context("Redis does not answer; see REDIS_URL")?.context("connect to Redis")?;
    let metrics = ProcessorMetrics::register(&Registry::new())?;
    if !rebuild(&Counters::new(redis, pool, generation, metrics), true).await? {
        bail!(
            "another process is rebuilding the counters at this moment: try again when it is done"
        );
    }
    println!("the counters are rebuilt");
    Ok(ExitCode::SUCCESS)
}

pub async fn statistics(config: &PostgresConfig) -> anyhow::Result<ExitCode> {
    let pool = postgres::pool(config, "rebuild")?;
    let generation = Generation::default();
    generation.observe(&*pool.get().await.context("connect to Postgres")?).await?;
    let dictionaries = Arc::new(Dictionaries::new(&generation));
    // A processor shows the days anew when it notices that its marks have moved.
    let of =
        |source| Rollups::new(pool.clone(), source, Duration::ZERO, dictionaries.clone(), None);
    let sources = statistics::rebuild(&pool, of).await?;
    println!("the statistics of {sources} sources are rebuilt");
    Ok(ExitCode::SUCCESS)
}
