//! Puts the alerter together: connects, shares the partitions with its group, and stops in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use common::admin::{self, Readiness};
use common::config::KafkaConfig;
use common::daemon::{Context, join_all};
use common::kafka::{GroupConsumer, GroupOffsets, ReadLimits, TopicPartition, ensure_topics};
use common::postgres;
use common::topic::{self, Topic};
use deadpool_postgres::Pool;
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::aggregates::partials::Partials;
use crate::aggregates::sinks::{self, Follower, Following};
use crate::aggregates::summing::Summing;
use crate::aggregates::totals::{Plan, Totals};
use crate::config::Config;
use crate::delivery::history::History;
use crate::delivery::subscriber::Subscription;
use crate::group;
use crate::metrics::AlerterMetrics;
use crate::partition::{Partition, Shared, Task};
use crate::readiness::Taking;
use crate::watch::Watch;
use crate::watching::Watching;

/// The alerter, connected and ready to run.
pub struct App {
    watching: Arc<Shared<Watching>>,
    /// None where nobody wants windows.
    summing: Option<Arc<Shared<Summing>>>,
    followers: Vec<Follower>,
    listener: TcpListener,
    registry: Registry,
    readiness: Readiness,
}

impl App {
    pub async fn connect(config: Config, context: &Context) -> anyhow::Result<Self> {
        let plan = config.aggregates.plan(&config.windows)?;
        let metrics = AlerterMetrics::register(&context.registry)?;
        let listener = TcpListener::bind(config.admin_listen)
            .await
            .with_context(|| format!("listen on {} (ADMIN_LISTEN)", config.admin_listen))?;
        let pool = postgres::pool(&config.postgres, "alerter")?;
        let watching = watching(&config, plan.as_ref(), &metrics, context).await?;
        let mut followers = vec![history(&config, &pool, &metrics)?];
        let mut totals = None;
        if let Some(plan) = plan {
            totals = Some(Arc::new(summing(&config, plan, &metrics, context).await?));
            let following = Following {
                kafka: &config.kafka,
                sinks: config.aggregates.sinks.sinks()?,
                config: &config.aggregates.sinks,
                group: &config.alerter_group,
                limits: config.batch.read_limits(),
                pool: &pool,
                metrics: &metrics,
            };
            followers.extend(sinks::follow(following).await?);
        }
        Ok(Self {
            watching: Arc::new(watching),
            summing: totals,
            followers,
            listener,
            registry: context.registry.clone(),
            readiness: context.readiness.clone(),
        })
    }

    /// Where the admin server listens.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Runs until `shutdown`: then batches are finished and committed, the groups left, and the
    /// admin server ends last.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let admin_stop = CancellationToken::new();
        let router = admin::router(self.registry, self.readiness);
        let mut admin = JoinSet::new();
        admin.spawn(admin::serve(self.listener, router, admin_stop.clone()));

        let mut tasks = JoinSet::new();
        tasks.spawn(work_on_partitions(self.watching.clone(), shutdown.clone()));
        tasks.spawn(report_lag(self.watching, shutdown.clone()));
        if let Some(summing) = self.summing {
            tasks.spawn(work_on_partitions(summing.clone(), shutdown.clone()));
            tasks.spawn(report_lag(summing, shutdown.clone()));
        }
        for follower in self.followers {
            tasks.spawn(follower(shutdown.clone()));
        }
        let result = join_all(tasks, &shutdown).await;

        admin_stop.cancel();
        result.and(join_all(admin, &admin_stop).await)
    }
}

/// Unique actions: milestones, spikes, and what the windows gain.
async fn watching(
    config: &Config,
    plan: Option<&Plan>,
    metrics: &AlerterMetrics,
    context: &Context,
) -> anyhow::Result<Shared<Watching>> {
    let kafka = &config.kafka;
    let rules = Arc::new(config.rules()?);
    let offsets = GroupOffsets::of(kafka, &config.alerter_group)?;
    ensure_topics(kafka, &[&topic::NOTIFICATIONS]).await?;
    let partition_count =
        prepare_topics(kafka, &offsets, &topic::UNIQUE_ACTIONS, &topic::ALERTER_STATE).await?;
    let groupings = config.aggregates.groupings();
    let slot_ms = plan.map(Plan::slot_ms);
    let notification_topic: Arc<str> = named(kafka, &topic::NOTIFICATIONS).into();
    let partial_topic: Arc<str> = named(kafka, &topic::PARTIALS).into();
    let told_in = metrics.clone();
    Ok(Shared {
        kafka: kafka.clone(),
        group: config.alerter_group.clone(),
        input_topic: named(kafka, &topic::UNIQUE_ACTIONS),
        state_topic: named(kafka, &topic::ALERTER_STATE),
        partition_count,
        limits: config.batch.read_limits(),
        quiet_ms: rules.timing.quiet_ms,
        offsets,
        undecided: GroupOffsets::undecided(kafka, &config.alerter_group)?,
        metrics: metrics.of_watching(),
        taking: Taking::new(context.readiness.clone(), "partitions"),
        begin: Box::new(move |now| Watching {
            watch: Watch::new(
                rules.clone(),
                slot_ms.map(|slot_ms| Partials::new(groupings.clone(), slot_ms)),
                now,
            ),
            notification_topic: notification_topic.clone(),
            partial_topic: partial_topic.clone(),
            metrics: told_in.clone(),
            rules_told: Vec::new(),
        }),
    })
}

/// What the windows gained, added up.
async fn summing(
    config: &Config,
    plan: Plan,
    metrics: &AlerterMetrics,
    context: &Context,
) -> anyhow::Result<Shared<Summing>> {
    /// Windows close seconds after their end: to gather for a while makes for fewer records.
    const GATHERED_FOR: Duration = Duration::from_millis(500);
    let kafka = &config.kafka;
    let group = format!("{}-totals", config.alerter_group);
    let offsets = GroupOffsets::of(kafka, &group)?;
    let undecided = GroupOffsets::undecided(kafka, &group)?;
    let partition_count = prepare_topics(kafka, &offsets, &topic::PARTIALS, &topic::TOTALS).await?;
    let result = sinks::result_topic(config.aggregates.sinks.sinks()?);
    ensure_topics(kafka, &[result]).await?;
    let result_topic: Arc<str> = named(kafka, result).into();
    let told_in = metrics.clone();
    Ok(Shared {
        kafka: kafka.clone(),
        group,
        input_topic: named(kafka, &topic::PARTIALS),
        state_topic: named(kafka, &topic::TOTALS),
        partition_count,
        limits: ReadLimits { age_max: GATHERED_FOR, ..config.batch.read_limits() },
        quiet_ms: plan.timing.quiet_ms,
        offsets,
        undecided,
        metrics: metrics.of_summing(),
        taking: Taking::new(context.readiness.clone(), "windows"),
        begin: Box::new(move |now| Summing {
            totals: Totals::new(plan.clone(), now),
            result_topic: result_topic.clone(),
            metrics: told_in.clone(),
            was_squeezed: false,
        }),
    })
}

fn history(config: &Config, pool: &Pool, metrics: &AlerterMetrics) -> anyhow::Result<Follower> {
    let group = format!("{}-history", config.alerter_group);
    let offsets = GroupOffsets::of(&config.kafka, &group)?;
    let history =
        History { pool: pool.clone(), offsets: offsets.clone(), metrics: metrics.clone() };
    let subscription = Subscription {
        topics: vec![named(&config.kafka, &topic::NOTIFICATIONS)],
        kafka: config.kafka.clone(),
        group,
        offsets,
        limits: config.batch.read_limits(),
    };
    let copy = |shutdown| subscription.copy_to(Arc::new(history), shutdown);
    Ok(Box::new(|shutdown| Box::pin(copy(shutdown))))
}

fn named(kafka: &KafkaConfig, topic: &Topic) -> String {
    format!("{}{}", kafka.kafka_topic_prefix, topic.name)
}

/// Creates what is missing. A state has as many partitions as its input, since the state of a key
/// lies where its records are; an installation where they differ is refused.
async fn prepare_topics(
    kafka: &KafkaConfig,
    offsets: &GroupOffsets,
    input: &Topic,
    state: &Topic,
) -> anyhow::Result<i32> {
    ensure_topics(kafka, &[input]).await?;
    let (input_name, state_name) = (named(kafka, input), named(kafka, state));
    let input_count = offsets.partition_count(&input_name).await?;
    let like_the_input = KafkaConfig { kafka_partitions: input_count, ..kafka.clone() };
    ensure_topics(&like_the_input, &[state]).await?;
    let state_count = offsets.partition_count(&state_name).await?;
    ensure!(
        input_count == state_count,
        "topic {input_name} has {input_count} partitions and {state_name} has {state_count}: the \
         counts would be torn apart; give {input_name} back its {state_count} partitions, or delete \
         {state_name} and the offsets of the alerter's group to begin anew"
    );
    Ok(input_count)
}

async fn work_on_partitions<T: Task>(
    shared: Arc<Shared<T>>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let topics = [&*shared.input_topic];
    let consumer = GroupConsumer::join(&shared.kafka, &shared.group, &topics)?;
    info!(group = shared.group, topic = shared.input_topic, "watching");
    let partitions = consumer.partitions();
    let taking = shared.taking.clone();
    let start = move |source: TopicPartition, stop| {
        Partition::new(shared.clone(), partitions.clone(), source).hold(stop)
    };
    group::share(consumer, start, || taking.joined(), &shutdown).await
}

/// How far the group is behind, whichever instance it is that reads.
async fn report_lag<T: Task>(
    shared: Arc<Shared<T>>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let every = Duration::from_secs(5);
    while shutdown.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
        for partition in 0..shared.partition_count {
            let source = TopicPartition { topic: shared.input_topic.clone(), partition };
            let answers = async {
                let marks = shared.offsets.watermarks(&source).await?;
                let next = shared.offsets.committed(&source).await?.unwrap_or(marks.low);
                Ok::<_, common::kafka::KafkaError>(marks.high - next)
            };
            match shutdown.run_until_cancelled(answers).await {
                Some(Ok(lag)) => {
                    let gauge = &shared.metrics.lag_records;
                    gauge.with_label_values(&[&*partition.to_string()]).set(lag);
                }
                Some(Err(error)) => debug!(%source, %error, "the lag is not known"),
                None => break,
            }
        }
    }
    Ok(())
}
