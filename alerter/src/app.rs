//! Puts the alerter together: connects, shares the partitions with its group, and stops in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use common::admin::{self, Readiness};
use common::config::KafkaConfig;
use common::daemon::{Context, join_all};
use common::kafka::{GroupConsumer, GroupOffsets, TopicPartition, ensure_topics};
use common::{postgres, topic};
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::config::Config;
use crate::delivery::history::History;
use crate::group;
use crate::metrics::AlerterMetrics;
use crate::partition::{Partition, Shared};
use crate::readiness::Taking;

/// The alerter, connected and ready to run.
pub struct App {
    shared: Arc<Shared>,
    history: Arc<History>,
    listener: TcpListener,
    registry: Registry,
    readiness: Readiness,
}

impl App {
    pub async fn connect(config: Config, context: &Context) -> anyhow::Result<Self> {
        let rules = Arc::new(config.rules()?);
        let metrics = AlerterMetrics::register(&context.registry)?;
        let listener = TcpListener::bind(config.admin_listen)
            .await
            .with_context(|| format!("listen on {} (ADMIN_LISTEN)", config.admin_listen))?;
        let group = config.alerter_group.clone();
        let offsets = GroupOffsets::of(&config.kafka, &group)?;
        let partition_count = prepare_topics(&config.kafka, &offsets).await?;
        let history = History {
            pool: postgres::pool(&config.postgres, "alerter")?,
            offsets: GroupOffsets::of(&config.kafka, &format!("{group}-history"))?,
            limits: config.batch.read_limits(),
            metrics: metrics.clone(),
        };
        let shared = Shared {
            state_topic: named(&config.kafka, &topic::ALERTER_STATE),
            notification_topic: named(&config.kafka, &topic::NOTIFICATIONS),
            input_topic: named(&config.kafka, &topic::UNIQUE_ACTIONS),
            limits: config.batch.read_limits(),
            taking: Taking::new(context.readiness.clone()),
            kafka: config.kafka,
            group,
            partition_count,
            rules,
            offsets,
            metrics,
        };
        Ok(Self {
            shared: Arc::new(shared),
            history: Arc::new(history),
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
        tasks.spawn(watch_partitions(self.shared.clone(), shutdown.clone()));
        tasks.spawn(keep_history(self.shared.clone(), self.history, shutdown.clone()));
        tasks.spawn(report_lag(self.shared, shutdown.clone()));
        let result = join_all(tasks, &shutdown).await;

        admin_stop.cancel();
        result.and(join_all(admin, &admin_stop).await)
    }
}

fn named(kafka: &KafkaConfig, topic: &topic::Topic) -> String {
    format!("{}{}", kafka.kafka_topic_prefix, topic.name)
}

/// Creates what is missing. The state has as many partitions as the input, since the state of an
/// object lies where its actions are; an installation where they differ is refused.
async fn prepare_topics(kafka: &KafkaConfig, offsets: &GroupOffsets) -> anyhow::Result<i32> {
    ensure_topics(kafka, &[&topic::UNIQUE_ACTIONS, &topic::NOTIFICATIONS]).await?;
    let (input, state) =
        (named(kafka, &topic::UNIQUE_ACTIONS), named(kafka, &topic::ALERTER_STATE));
    let input_count = offsets.partition_count(&input).await?;
    let like_the_input = KafkaConfig { kafka_partitions: input_count, ..kafka.clone() };
    ensure_topics(&like_the_input, &[&topic::ALERTER_STATE]).await?;
    let state_count = offsets.partition_count(&state).await?;
    ensure!(
        input_count == state_count,
        "topic {input} has {input_count} partitions and {state} has {state_count}: the counts of \
         objects would be torn apart; give {input} back its {state_count} partitions, or delete \
         {state} and the offsets of the alerter's group to begin anew"
    );
    Ok(input_count)
}

async fn watch_partitions(shared: Arc<Shared>, shutdown: CancellationToken) -> anyhow::Result<()> {
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

async fn keep_history(
    shared: Arc<Shared>,
    history: Arc<History>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let group = format!("{}-history", shared.group);
    let consumer = GroupConsumer::join(&shared.kafka, &group, &[&shared.notification_topic])?;
    let partitions = consumer.partitions();
    let start = move |source, stop| history.clone().copy(partitions.clone(), source, stop);
    group::share(consumer, start, || (), &shutdown).await
}

/// How far the group is behind, whichever instance it is that reads.
async fn report_lag(shared: Arc<Shared>, shutdown: CancellationToken) -> anyhow::Result<()> {
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
