//! Where windows go. Kafka is where they are told; the others follow that topic, each for itself.
//!
//! A further sink is a file beside these, a name in [`Sink`] and a line in [`follow`].

mod files;
#[cfg(feature = "parquet")]
pub mod parquet;
mod postgres;
pub mod retention;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use common::config::KafkaConfig;
use common::kafka::{GroupOffsets, ReadLimits};
use common::topic::{self, Topic};
use deadpool_postgres::Pool;
use tokio_util::sync::CancellationToken;

use crate::aggregates::sinks::files::Files;
#[cfg(feature = "parquet")]
use crate::aggregates::sinks::parquet::Parquet;
use crate::aggregates::sinks::postgres::Postgres;
use crate::aggregates::sinks::retention::{Remover, Retention};
use crate::delivery::subscriber::{Place, Subscription};
use crate::metrics::AlerterMetrics;

/// A place for windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Sink {
    Kafka,
    Postgres,
    Files,
    Parquet,
    None,
}

impl Sink {
    /// In metrics, groups and the setting.
    fn name(self) -> String {
        self.to_possible_value().map(|it| it.get_name().to_owned()).unwrap_or_default()
    }
}

/// Which sinks there are, and their settings.
#[derive(Debug, Clone, Args)]
pub struct SinkConfig {
    /// Where counts and users per window go, by comma: the topic `action-aggregates` (kafka), the
    /// table `action_aggregates` (postgres), a directory (files), a store that speaks S3 (parquet,
    /// where it is built in); or none. What is switched on counts from then on.
    #[arg(long, env = "AGGREGATE_SINKS", value_delimiter = ',', default_value = "kafka,postgres")]
    pub aggregate_sinks: Vec<Sink>,
    /// Days for which the table keeps a window after its start, 0: for ever. What comes for an older
    /// one is not stored there. By default a day can be compared with that of the year before, and
    /// there is a month to look at it.
    #[arg(long, env = "AGGREGATE_RETENTION_DAYS", default_value_t = 400)]
    pub aggregate_retention_days: u32,
    /// The directory of the sink `files`, one for all instances of the group: NDJSON compressed
    /// with zstd, named by topic, partition and offsets. Nothing removes them; you may, but for the
    /// newest of each partition, whose name says how far it is, and those that begin with a dot.
    #[arg(long, env = "AGGREGATE_FILES", value_name = "DIRECTORY")]
    pub aggregate_files: Option<PathBuf>,
    /// Where the sink `parquet` puts its files: s3://BUCKET/PATH or file:///DIRECTORY. S3's region,
    /// keys and endpoint are in its usual variables (AWS_REGION, AWS_ACCESS_KEY_ID,
    /// AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, AWS_ALLOW_HTTP …); it must honour If-None-Match. You
    /// may remove files that are more than a day old, but for the newest of each partition: its
    /// footer says how far it is.
    #[arg(long, env = "AGGREGATE_PARQUET", value_name = "URL")]
    pub aggregate_parquet: Option<String>,
    /// A file of either sink holds what was told within so many seconds, or 16 MiB of it.
    #[arg(long, env = "AGGREGATE_FILE_SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub aggregate_file_seconds: u64,
}

impl SinkConfig {
    /// The sinks; empty for `none`. Fails on settings that contradict each other.
    pub fn sinks(&self) -> anyhow::Result<&[Sink]> {
        let sinks = &self.aggregate_sinks;
        if sinks.contains(&Sink::None) {
            ensure!(
                sinks.iter().all(|sink| *sink == Sink::None),
                "AGGREGATE_SINKS is none or a list of others, not both"
            );
            return Ok(&[]);
        }
        ensure!(
            !sinks.contains(&Sink::Files) || self.aggregate_files.is_some(),
            "the sink files needs a directory (AGGREGATE_FILES)"
        );
        if sinks.contains(&Sink::Parquet) {
            ensure!(
                cfg!(feature = "parquet"),
                "this alerter was built without the sink parquet; one with it is built by \
                 `cargo build --release -p alerter --features parquet`"
            );
            let place = self.aggregate_parquet.as_deref().unwrap_or_default();
            ensure!(
                place.starts_with("s3://") || place.starts_with("file:///"),
                "the sink parquet needs s3://BUCKET/PATH or file:///DIRECTORY (AGGREGATE_PARQUET)"
            );
        }
        Ok(sinks)
    }

    fn file_limits(&self) -> ReadLimits {
        ReadLimits {
            events_max: 100_000,
            bytes_max: 16 << 20,
            age_max: Duration::from_secs(self.aggregate_file_seconds),
        }
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
                let pool = following.pool.clone();
                let metrics = following.metrics.clone();
                let retention = Retention { days: following.config.aggregate_retention_days };
                let place = Postgres {
                    kafka: following.kafka.clone(),
                    pool: pool.clone(),
                    retention,
                    metrics: metrics.clone(),
                };
                followers.push(following.follower(*sink, place, following.limits).await?);
                let remover = Remover { pool, retention, metrics };
                followers.push(Box::new(|shutdown| Box::pin(remover.run(shutdown))));
            }
            Sink::Files => {
                let directory = following.config.aggregate_files.as_deref();
                let place = Files::new(
                    following.kafka.clone(),
                    directory.context("checked with the settings")?,
                    following.metrics.clone(),
                )?;
                let limits = following.config.file_limits();
                followers.push(following.follower(*sink, place, limits).await?);
            }
            #[cfg(feature = "parquet")]
            Sink::Parquet => {
                let place = Parquet::new(
                    following.kafka.clone(),
                    following.config.aggregate_parquet.as_deref().unwrap_or_default(),
                    following.metrics.clone(),
                )?;
                let limits = following.config.file_limits();
                followers.push(following.follower(*sink, place, limits).await?);
            }
            #[cfg(not(feature = "parquet"))]
            Sink::Parquet => unreachable!("refused with the settings"),
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
