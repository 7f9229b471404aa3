//! The daemon: opens everything, then hands partitions to their tasks as the group assigns them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::Router;
use common::daemon::{Context, join_all};
use common::kafka::{
    GroupConsumer, GroupEvent, GroupOffsets, Partitions, TopicPartition, ensure_topics,
};
use common::{admin, migrate, postgres, redis, topic};
use deadpool_postgres::{Hook, HookError, Pool};
use fred::prelude::{Client as RedisClient, ClientLike, ConfigInterface};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::config::Config;
use crate::dedup::Dedup;
use crate::follow::Memory;
use crate::follow::counters::Counters;
use crate::follow::dictionary::Dictionaries;
use crate::follow::folder::keep_folded;
use crate::follow::relay::RelayTopics;
use crate::generation::Generation;
use crate::judge::{ensure_leaves, watch_blockers};
use crate::metrics::ProcessorMetrics;
use crate::partition::{self, Shared};

/// Everything the daemon has opened.
pub struct App {
    listener: TcpListener,
    router: Router,
    consumer: GroupConsumer,
    redis: RedisClient,
    shared: Arc<Shared>,
}

impl App {
    /// Opens everything and fails early; nothing runs yet.
    pub async fn connect(config: Config, context: &Context) -> anyhow::Result<Self> {
        let metrics = ProcessorMetrics::register(&context.registry)?;
        let listener = TcpListener::bind(config.admin_listen)
            .await
            .with_context(|| format!("listen on {} (ADMIN_LISTEN)", config.admin_listen))?;
        let router = admin::router(context.registry.clone(), context.readiness.clone());
        let generation = Generation::default();
        let pool = observed_pool(&config, &generation)?;
        let seed = check_postgres(&pool).await?;
        ensure_leaves(&pool).await?;
        metrics.generation.set(generation.current());
        let topics = prepare_topics(&config).await?;
        let redis = redis::client(&config.redis)?;
        redis.connect();
        check_redis(&redis).await?;
        let offsets = GroupOffsets::of(&config.kafka, &config.consumer_group)?;
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        let consumer = GroupConsumer::join(&config.kafka, &config.consumer_group, &names)
            .context("join the consumer group")?;
        let dedup = Dedup::new(
            config.dedup,
            redis.clone(),
            pool.clone(),
            generation.clone(),
            metrics.clone(),
        );
        let counters =
            Counters::new(redis.clone(), pool.clone(), generation.clone(), metrics.clone());
        let shared = Shared {
            pool,
            offsets,
            relay: RelayTopics::new(&config.kafka, &config.consumer_group),
            dedup: Arc::new(dedup),
            counters: Arc::new(counters),
            dictionaries: Arc::new(Dictionaries::new(&generation)),
            generation,
            memory: Memory::new(config.follow.follow_mib_max),
            metrics,
            readiness: context.readiness.clone(),
            seed,
            config,
        };
        Ok(Self { listener, router, consumer, redis, shared: Arc::new(shared) })
    }

    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Judges until told to stop; then finishes the batches, leaves the group, and closes last what
    /// others look at.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self { listener, router, consumer, redis, shared } = self;
        let admin_stop = CancellationToken::new();
        let mut admin = JoinSet::new();
        admin.spawn(admin::serve(listener, router, admin_stop.clone()));
        let helpers_stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(watch_blockers(
            shared.pool.clone(),
            shared.metrics.clone(),
            helpers_stop.clone(),
        ));
        tasks.spawn(shared.counters.clone().show_days(helpers_stop.clone()));
        tasks.spawn(shared.dedup.clone().teach_redis(helpers_stop.clone()));
        let fold_after = shared.config.follow.fold_seconds;
        tasks.spawn(keep_folded(shared.pool.clone(), fold_after, helpers_stop.clone()));
        tasks.spawn(keep_leaves(shared.pool.clone(), helpers_stop.clone()));
        tasks.spawn(watch_health(shared.clone(), redis.clone(), helpers_stop.clone()));
        tasks.spawn(watch_kafka(shared.clone(), helpers_stop.clone()));
        let judging = {
            let (stop, helpers_stop) = (shutdown.clone(), helpers_stop.clone());
            async move {
                let judged = serve_group(shared, consumer, stop).await;
                helpers_stop.cancel();
                judged
            }
        };
        tasks.spawn(judging);
        let ended = join_all(tasks, &shutdown).await;
        admin_stop.cancel();
        while admin.join_next().await.is_some() {}
        ended
    }
}

/// A pool whose every new connection tells in which life of Postgres we are.
fn observed_pool(config: &Config, generation: &Generation) -> anyhow::Result<Pool> {
    let generation = generation.clone();
    let observe = Hook::async_fn(move |client: &mut deadpool_postgres::ClientWrapper, _| {
        let generation = generation.clone();
        Box::pin(async move {
            let observed = generation.observe(client).await;
            observed.map_err(|error| HookError::message(format!("{error:#}")))
        })
    });
    let builder = postgres::pool_builder(&config.postgres, "processor")?;
    builder.post_create(observe).build().context("build the Postgres pool")
}

/// Refuses a database that would silently break the promise; returns the hash seed.
async fn check_postgres(pool: &Pool) -> anyhow::Result<u64> {
    let client = pool.get().await.context("connect to Postgres (DATABASE_URL)")?;
    migrate::require_current(&client).await?;
    let row = client.query_one(include_str!("read_durability.sql"), &[]).await?;
    let (fsync, commit): (String, String) = (row.get(0), row.get(1));
    if fsync != "on" {
        bail!("Postgres runs with fsync={fsync}: a crash could lose judged events; set fsync=on");
    }
    if commit == "off" {
        bail!(
            "synchronous_commit is off for this role: a crash could lose judged events; run \
             ALTER ROLE … SET synchronous_commit = on"
        );
    }
    let seed: i64 = client.query_one("select hash_seed from install", &[]).await?.get(0);
    Ok(seed.cast_unsigned())
}

async fn prepare_topics(config: &Config) -> anyhow::Result<Vec<String>> {
    let inputs: Vec<topic::Topic> = config
        .input_topics
        .iter()
        .map(|input| topic::Topic { name: input.name.clone(), ..topic::USER_ACTIONS.clone() })
        .collect();
    let mut topics: Vec<&topic::Topic> = inputs.iter().collect();
    topics.extend([&*topic::UNIQUE_ACTIONS, &*topic::DEAD_LETTERS]);
    ensure_topics(&config.kafka, &topics).await?;
    let prefix = &config.kafka.kafka_topic_prefix;
    Ok(inputs.iter().map(|input| format!("{prefix}{}", input.name)).collect())
}

/// Refuses a Redis that evicts: counters would shrink without a trace. One that is away is no
/// reason to wait: judging goes on without it.
async fn check_redis(redis: &RedisClient) -> anyhow::Result<()> {
    let connected = tokio::time::timeout(Duration::from_secs(2), redis.wait_for_connect()).await;
    if !matches!(connected, Ok(Ok(()))) {
        warn!("redis is away: counters are stale until it is back");
        return Ok(());
    }
    let settings: Result<HashMap<String, String>, _> = redis.config_get("maxmemory-policy").await;
    match settings {
        Ok(settings) => match settings.get("maxmemory-policy").map(String::as_str) {
            None | Some("noeviction") => Ok(()),
            Some(policy) => bail!(
                "Redis runs with maxmemory-policy={policy}: it would evict counters; set it to \
                 noeviction"
            ),
        },
        Err(error) => {
            warn!(%error, "redis does not show its maxmemory-policy; make sure it is noeviction");
            Ok(())
        }
    }
}

/// Leaves for the days ahead, looked after every hour.
async fn keep_leaves(pool: Pool, stop: CancellationToken) -> anyhow::Result<()> {
    while stop.run_until_cancelled(tokio::time::sleep(Duration::from_secs(3_600))).await.is_some() {
        if let Err(error) = ensure_leaves(&pool).await {
            warn!("the leaves of the days ahead could not be made: {error:#}");
        }
    }
    Ok(())
}

/// Says once a second how the servers are, and how far the ledgers trail the log.
async fn watch_health(
    shared: Arc<Shared>,
    redis: RedisClient,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        let state = match shared.pool.get().await {
            Ok(client) => {
                client.simple_query("select 1").await.map(drop).map_err(|it| it.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        shared.readiness.set("postgres", state);
        // Redis only makes counters stale: it shows in a metric, not in readiness.
        if !redis.is_connected() {
            debug!("redis is away");
        }
        shared.metrics.generation.set(shared.generation.current());
        let waiting = shared.memory.waiting_bytes();
        shared.metrics.follow_bytes.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        if stop.run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await.is_none() {
            shared.readiness.set("postgres", Err("stopping".to_owned()));
            return Ok(());
        }
    }
}

/// Says whether the brokers answer for the first of our topics.
async fn watch_kafka(shared: Arc<Shared>, stop: CancellationToken) -> anyhow::Result<()> {
    let prefix = &shared.config.kafka.kafka_topic_prefix;
    let topic = shared.config.input_topics.first().map(|it| format!("{prefix}{}", it.name));
    let Some(topic) = topic else { return Ok(()) };
    loop {
        let count = stop.run_until_cancelled(shared.offsets.partition_count(&topic)).await;
        let state = match count {
            Some(Ok(count)) if count > 0 => Ok(()),
            Some(Ok(_none)) => Err(format!("topic {topic} is not there")),
            Some(Err(error)) => Err(error.to_string()),
            None => return Ok(()),
        };
        shared.readiness.set("kafka", state);
        if stop.run_until_cancelled(tokio::time::sleep(Duration::from_secs(2))).await.is_none() {
            return Ok(());
        }
    }
}

struct Holding {
    stop: CancellationToken,
    task: JoinSet<()>,
}

/// Reacts to the group until told to stop, then gives everything up.
async fn serve_group(
    shared: Arc<Shared>,
    mut consumer: GroupConsumer,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let partitions = consumer.partitions();
    let mut held: HashMap<TopicPartition, Holding> = HashMap::new();
    while let Some(event) = shutdown.run_until_cancelled(consumer.next()).await {
        match event {
            GroupEvent::Assigned(assigned) => {
                for source in assigned {
                    held.entry(source.clone())
                        .or_insert_with(|| start(&shared, &partitions, source));
                }
            }
            GroupEvent::Revoked(revoked) => {
                give_up(revoked.iter().filter_map(|it| held.remove(it)).collect()).await;
                if let Err(error) = partitions.release([]) {
                    warn!(%error, "the revocation could not be answered");
                }
            }
            GroupEvent::Trouble(error) => debug!(%error, "the consumer group reports"),
        }
    }
    info!("giving up all partitions");
    give_up(held.into_values().collect()).await;
    drop(partitions);
    consumer.leave().await;
    Ok(())
}

fn start(shared: &Arc<Shared>, partitions: &Partitions, source: TopicPartition) -> Holding {
    let stop = CancellationToken::new();
    let mut task = JoinSet::new();
    task.spawn(partition::run(shared.clone(), partitions.clone(), source, stop.clone()));
    Holding { stop, task }
}

/// All at once: each finishes its batch and lets its followers catch up for a while.
async fn give_up(mut holdings: Vec<Holding>) {
    holdings.iter().for_each(|it| it.stop.cancel());
    for holding in &mut holdings {
        while holding.task.join_next().await.is_some() {}
    }
}
