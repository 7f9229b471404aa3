//! The gateway's Redis: opened in the background, watched, never waited for.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::admin::Readiness;
use common::config::RedisConfig;
use fred::prelude::{Client, ClientLike, FromValue};
use fred::types::MultipleValues;
use fred::types::scripts::Script;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// How long a server may keep silent before it is called away.
const PATIENCE: Duration = Duration::from_secs(1);

/// A client that is about to connect. Without Redis all goes on, with limits of each instance's own
/// and without stored answers.
pub async fn open(config: &RedisConfig) -> anyhow::Result<Client> {
    let redis = common::redis::client(config)?;
    redis.connect();
    let connecting = tokio::time::timeout(PATIENCE, redis.wait_for_connect()).await;
    if !connecting.is_ok_and(|it| it.is_ok()) {
        warn!("Redis is away: limits count per instance, and no answer is stored for a retry");
    }
    Ok(redis)
}

/// Shows in `/readyz?verbose` how Redis is. The gateway is ready without it.
pub async fn watch(
    redis: Client,
    readiness: &Readiness,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut was_well = true;
    loop {
        let answer = tokio::time::timeout(PATIENCE, redis.ping::<String>(None)).await;
        let state = match answer {
            Ok(Ok(_pong)) => Ok(()),
            Ok(Err(error)) => Err(format!("{error}; limits count per instance meanwhile")),
            Err(_late) => Err("it does not answer; limits count per instance meanwhile".to_owned()),
        };
        match &state {
            Err(reason) if was_well => warn!("Redis is away: {reason}"),
            Ok(()) if !was_well => info!("Redis is back"),
            _ => {}
        }
        was_well = state.is_ok();
        readiness.report("redis", state);
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(WATCH_INTERVAL) => {}
        }
    }
}

/// After a failure nobody asks for so long: else each request would wait for the same silence.
const PAUSE: Duration = Duration::from_millis(250);

/// Calls scripts, and goes on without an answer when there is none within its patience.
#[derive(Debug)]
pub struct Impatient {
    redis: Client,
    patience: Duration,
    paused_until: Mutex<Instant>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// It was away a moment ago and is not asked.
    NotAsked,
    Late,
    Failed,
}

impl Impatient {
    pub fn new(redis: Client, patience: Duration) -> Self {
        Self { redis, patience, paused_until: Mutex::new(Instant::now()) }
    }

    pub fn is_asked(&self) -> bool {
        self.redis.is_connected() && Instant::now() >= *self.paused_until()
    }

    /// For what is passed to `ask`.
    pub fn client(&self) -> &Client {
        &self.redis
    }

    pub async fn call<R: FromValue>(
        &self,
        script: &Script,
        key: String,
        arguments: impl TryInto<MultipleValues, Error: Into<fred::error::Error> + Send> + Send,
    ) -> Result<R, NoAnswer> {
        self.ask(script.evalsha_with_reload(&self.redis, key, arguments)).await
    }

    /// Waits for a command, if it is worth asking.
    pub async fn ask<R>(
        &self,
        command: impl Future<Output = Result<R, fred::error::Error>>,
    ) -> Result<R, NoAnswer> {
        if !self.is_asked() {
            return Err(NoAnswer::NotAsked);
        }
        let failure = match tokio::time::timeout(self.patience, command).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => {
                debug!(%error, "Redis refuses");
                NoAnswer::Failed
            }
            Err(_late) => NoAnswer::Late,
        };
        *self.paused_until() = Instant::now() + PAUSE;
        Err(failure)
    }

    fn paused_until(&self) -> MutexGuard<'_, Instant> {
        self.paused_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
