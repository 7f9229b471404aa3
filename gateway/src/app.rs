//! The gateway as a whole: opens everything, runs, and stops along the flow.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use common::admin::Readiness;
use common::daemon::{self, Context};
use common::postgres;
use fred::prelude::Client as RedisClient;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::archive::Archive;
use crate::auth::{Access, KeyStore};
use crate::budget::Budget;
use crate::config::{Cli, GatewayConfig};
use crate::http::{Gateway, Routes, Server, Tls};
use crate::idempotency::Idempotency;
use crate::import::jobs::Jobs;
use crate::metrics::GatewayMetrics;
use crate::pipeline::Pipeline;
use crate::publisher::Publisher;
use crate::push::Push;
use crate::quota::Quotas;
use crate::redis;
use crate::stats::Stats;

pub struct App {
    server: Server,
    tls: Option<Tls>,
    gateway: Arc<Gateway>,
    redis: RedisClient,
    readiness: Readiness,
    drain_delay: Duration,
    grace: Duration,
}

impl App {
    /// Opens everything and fails early: Kafka and its topic, Postgres and its keys, the port.
    pub async fn connect(
        cli: &Cli,
        config: &GatewayConfig,
        context: &Context,
    ) -> anyhow::Result<Self> {
        let metrics = GatewayMetrics::register(&context.registry)?;
        let pool = postgres::pool(&cli.postgres, "gateway")?;
        let access = Access::connect(&config.auth, KeyStore::new(pool.clone()), &metrics).await?;
        let redis = redis::open(&cli.redis).await?;
        let gateway = Arc::new(Gateway {
            access,
            quotas: Quotas::new(&config.quota, redis.clone(), &metrics),
            idempotency: Idempotency::new(
                &config.idempotency,
                config.publisher.delivery_timeout(),
                redis.clone(),
                &metrics,
            ),
            publisher: Publisher::connect(&cli.kafka, &config.publisher).await?,
            push: Push::new(&cli.kafka, &config.push, &metrics)?,
            budget: Budget::new(config.http.gateway_inflight_bytes, metrics.inflight_bytes.clone()),
            body_time_max: config.http.body(),
            jobs: Jobs::new(&config.import, pool.clone()),
            stats: Stats::new(config.stats, pool.clone(), redis.clone()),
            pipeline: Pipeline::new(
                &config.pipeline,
                config.stats,
                &cli.kafka,
                pool.clone(),
                redis.clone(),
            )?,
            archive: Archive::new(config.stats, pool),
            clock_skew: config.http.clock_skew(),
            metrics,
        });
        let routes = Routes::new(&gateway, context, &config.http.cors_origins);
        let tls = Tls::load(&config.http.tls)?;
        let connections = gateway.metrics.connections.clone();
        let server = Server::bind(&config.http, routes, tls.clone(), connections)
            .await
            .with_context(|| format!("listen on {}", config.http.gateway_listen))?;
        info!(address = %server.local_addr(), tls = tls.is_some(), "listening");
        Ok(Self {
            server,
            tls,
            gateway,
            redis,
            readiness: context.readiness.clone(),
            drain_delay: config.http.drain_delay(),
            grace: cli.daemon.grace(),
        })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// Serves until the shutdown; then not ready → no new connections → finish → flush.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self { server, tls, gateway, redis, readiness, drain_delay, grace } = self;
        // Half of the grace period for open requests, a quarter for the flush behind them.
        let (drain_max, flush_max) = (grace / 2, grace / 4);
        let watchers = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let (gateway, readiness, stop) = (gateway.clone(), readiness.clone(), watchers.clone());
            async move { gateway.publisher.watch(&readiness, stop).await }
        });
        tasks.spawn({
            let (gateway, stop) = (gateway.clone(), shutdown.clone());
            async move { gateway.jobs.run(&gateway.publisher, stop).await }
        });
        tasks.spawn({
            let (gateway, readiness, stop) = (gateway.clone(), readiness.clone(), watchers.clone());
            async move { gateway.access.keep_fresh(&readiness, stop).await }
        });
        if let Some(tls) = tls {
            let stop = watchers.clone();
            tasks.spawn(async move { tls.keep_fresh(stop).await });
        }
        tasks.spawn({
            let (gateway, stop) = (gateway.clone(), watchers.clone());
            async move { gateway.push.run(stop).await }
        });
        tasks.spawn({
            let (readiness, stop) = (readiness.clone(), watchers.clone());
            async move { redis::watch(redis, &readiness, stop).await }
        });
        tasks.spawn({
            let (gateway, shutdown) = (gateway.clone(), shutdown.clone());
            async move {
                // The watchers are needed until the last request is answered.
                let _watchers = watchers.drop_guard();
                let close = async {
                    announce(shutdown, &readiness, drain_delay).await;
                    gateway.push.close();
                };
                server.run(close, drain_max).await;
                gateway.push.closed().await;
                Ok(())
            }
        });
        let ended = daemon::join_all(tasks, &shutdown).await;
        if let Err(error) = gateway.publisher.flush(flush_max).await {
            warn!(%error, "events nobody waits for any more may not have reached Kafka");
        }
        ended
    }
}

/// Resolves when new connections are to be refused, and says before that we are not ready.
async fn announce(shutdown: CancellationToken, readiness: &Readiness, delay: Duration) {
    shutdown.cancelled().await;
    readiness.set("gateway", Err("stopping".into()));
    tokio::time::sleep(delay).await;
}
