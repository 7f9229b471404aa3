//! Where windows go. Kafka is where they are told; the others follow that topic, each for itself.
//!
//! A further sink is a file beside these, a name in [`Sink`] and a line in [`follow`].

mod postgres;

use std::pin::Pin;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use common::config::KafkaConfig;
use common::kafka::{GroupOffsets, ReadLimits};
use common::topic::{self, Topic};
use deadpool_postgres::Pool;
use tokio_util::sync::CancellationToken;

use crate::aggregates::sinks::postgres::Postgres;
use crate::delivery::subscriber::{Place, Subscription};
use crate::metrics::AlerterMetrics;

/// A place for windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Sink {
    Kafka,
    Postgres,
    None,
}

impl Sink {
    /// In metrics, groups and the setting.
    fn name(self) -> String {
        self.to_possible_value().map(|it| it.get_name().to_owned()).unwrap_or_default()
    }
}

/// Settings of single sinks.
#[derive(Debug, Clone, Args)]
pub struct SinkConfig {}

impl SinkConfig {
    /// Fails on a sink that lacks a setting.
    pub fn check(&self, _sinks: &[Sink]) -> anyhow::Result<()> {
        Ok(())
    }
}

/// The topic in which windows are told. Without the sink `kafka` nobody outside is meant to read
/// them there, so it is one of ours, and short: only the other sinks read it.
pub fn result_topic(sinks: &[Sink]) -> &'static Topic {
    if sinks.contains(&Sink::Kafka) { &topic::AGGREGATES } else { &topic::AGGREGATES_WITHIN }
}

/// What the sinks that follow the topic share.
pub struct Following<'a> {
    pub kafka: &'a KafkaConfig,
    pub sinks: &'a [Sink],
    pub config: &'a SinkConfig,
    /// Before the names of their groups.
    pub group: &'a str,
    pub limits: ReadLimits,
    pub pool: &'a Pool,
    pub metrics: &'a AlerterMetrics,
}

/// A follower that is ready to run until it is told to stop.
pub type Follower = Box<
    dyn FnOnce(CancellationToken) -> Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>
        + Send,
>;

/// The sinks that follow the topic.
pub async fn follow(following: Following<'_>) -> anyhow::Result<Vec<Follower>> {
    let mut followers = Vec::new();
    for sink in following.sinks {
        match sink {
            Sink::Kafka | Sink::None => {}
            Sink::Postgres => {
                let place = Postgres::new(
                    following.kafka.clone(),
                    following.pool.clone(),
                    following.metrics.clone(),
                );
                followers.push(following.follower(*sink, place, following.limits).await?);
            }
        }
    }
    Ok(followers)
}

impl Following<'_> {
    async fn follower<P: Place>(
        &self,
        sink: Sink,
        place: P,
        limits: ReadLimits,
    ) -> anyhow::Result<Follower> {
        let group = format!("{}-aggregates-{}", self.group, sink.name());
        let offsets = GroupOffsets::of(self.kafka, &group)?;
        let subscription = Subscription {
            kafka: self.kafka.clone(),
            topics: self.topics(&offsets).await?,
            group,
            offsets,
            limits,
        };
        let place = Arc::new(place);
        Ok(Box::new(move |shutdown| Box::pin(subscription.copy_to(place, shutdown))))
    }

    /// The topic of now, and that of before the sink `kafka` was switched on or off: what lies
    /// there is followed to its end.
    async fn topics(&self, offsets: &GroupOffsets) -> anyhow::Result<Vec<String>> {
        let now = result_topic(self.sinks);
        let mut topics = Vec::new();
        for topic in [&*topic::AGGREGATES, &*topic::AGGREGATES_WITHIN] {
            let name = format!("{}{}", self.kafka.kafka_topic_prefix, topic.name);
            let exists = || async { offsets.partition_count(&name).await.is_ok_and(|it| it > 0) };
            if topic.name == now.name || exists().await {
                topics.push(name);
            }
        }
        Ok(topics)
    }
}
