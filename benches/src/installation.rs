//! One installation for one measurement: topics, groups, a schema and a Redis database of its own.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use common::config::KafkaConfig;
use common::kafka::{GroupOffsets, TopicPartition, ensure_topics};
use common::topic;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use tempfile::TempDir;
use tokio::process::Child;
use tokio::time::{Instant, sleep};

use crate::program::{self, Program};
use crate::usage::{Watched, listener};
use crate::{postgres, redis};

pub const PARTITIONS: i32 = 4;
/// Databases of Redis from here on are ours.
const FIRST_REDIS_DATABASE: u32 = 200;
const REDIS_DATABASES: u32 = 50;
const FOLLOWED_WITHIN: Duration = Duration::from_secs(300);

pub struct Installation {
    /// Prefix of topics and groups, name of the schema.
    id: String,
    pub database_url: String,
    redis_url: String,
    brokers: String,
    settings: Vec<(String, String)>,
    directory: TempDir,
}

impl Installation {
    /// A new one with these settings besides, migrated.
    pub async fn new(more: &[(&str, &str)]) -> anyhow::Result<Self> {
        static TAKEN: AtomicU32 = AtomicU32::new(0);
        let taken = TAKEN.fetch_add(1, Ordering::Relaxed);
        let id = format!("bench{:x}x{taken}", jiff::Timestamp::now().as_millisecond());
        let server = named("DATABASE_URL")?;
        let connection = postgres::Connection::open(&server).await?;
        connection.client.batch_execute(&format!("create schema {id}")).await?;
        let joint = if server.contains('?') { '&' } else { '?' };
        let database_url = format!("{server}{joint}options=-c%20search_path%3D{id}");
        let redis_server = named("REDIS_URL")?.split('/').take(3).collect::<Vec<_>>().join("/");
        let redis_database = FIRST_REDIS_DATABASE + taken % REDIS_DATABASES;
        let redis_url = format!("{redis_server}/{redis_database}");
        redis::Connection::open(&redis_url).await?.flush_database().await?;
        let brokers = named("KAFKA_BROKERS")?;
        let directory = tempfile::Builder::new().prefix("tallyman-bench").tempdir()?;
        let mut installation =
            Self { id, database_url, redis_url, brokers, settings: Vec::new(), directory };
        installation.settings = installation.settings(more);
        ensure_topics(&installation.kafka(), &topic::all()).await?;
        installation.run("processor", &["migrate"]).await?;
        Ok(installation)
    }

    fn settings(&self, more: &[(&str, &str)]) -> Vec<(String, String)> {
        let prefix = format!("{}-", self.id);
        let group = format!("{}-processor", self.id);
        let own = [
            ("KAFKA_BROKERS", self.brokers.as_str()),
            ("KAFKA_TOPIC_PREFIX", &prefix),
            ("DATABASE_URL", &self.database_url),
            ("REDIS_URL", &self.redis_url),
            ("CONSUMER_GROUP", &group),
            ("NO_COLOR", "1"),
        ];
        let all = own.iter().chain(more);
        all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    pub async fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        program::run(program, arguments, &self.settings).await
    }

    pub fn spawn(&self, program: &str, arguments: &[&str]) -> anyhow::Result<Child> {
        program::spawn(program, arguments, &self.settings)
    }

    pub fn start(&self, name: &'static str) -> anyhow::Result<Program> {
        Program::start(name, &self.settings, self.directory.path())
    }

    pub fn redis_url(&self) -> &str {
        &self.redis_url
    }

    pub async fn postgres(&self) -> anyhow::Result<postgres::Connection> {
        postgres::Connection::open(&self.database_url).await
    }

    pub fn topic(&self, name: &str) -> String {
        format!("{}-{name}", self.id)
    }

    pub fn kafka(&self) -> KafkaConfig {
        KafkaConfig {
            kafka_brokers: self.brokers.clone(),
            kafka_topic_prefix: format!("{}-", self.id),
            kafka_partitions: PARTITIONS,
            kafka_options: Vec::new(),
        }
    }

    /// The servers that run on this machine; of another machine's nothing can be told.
    pub fn servers(&self) -> Vec<Watched> {
        let servers = [
            ("Kafka", &self.brokers),
            ("Postgres", &self.database_url),
            ("Redis", &self.redis_url),
        ];
        let watched = servers.iter().filter_map(|(name, address)| {
            Some(Watched { name, pid: listener(port(address)?).ok()? })
        });
        watched.collect()
    }

    /// Waits until every follower (relay, rollups, statistics, counters) has reached the ledger.
    pub async fn wait_followed(&self) -> anyhow::Result<()> {
        let offsets = GroupOffsets::of(&self.kafka(), &format!("{}-processor", self.id))?;
        let postgres = self.postgres().await?;
        let redis = redis::Connection::open(&self.redis_url).await?;
        let began = Instant::now();
        while self.behind(&offsets, &postgres, &redis).await? > 0 {
            ensure!(began.elapsed() < FOLLOWED_WITHIN, "the followers do not reach the ledger");
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// By how many offsets the followers are behind, all together.
    async fn behind(
        &self,
        offsets: &GroupOffsets,
        postgres: &postgres::Connection,
        redis: &redis::Connection,
    ) -> anyhow::Result<i64> {
        const MARKS: &str = "select partition, source, l.next_offset,
                                    least(coalesce(m.next_offset, 0), coalesce(s.next_offset, 0))
                               from consumer_ledger l left join rollup_marks m using (source)
                                                      left join statistics_marks s using (source)";
        let mut behind = 0;
        for row in postgres.client.query(MARKS, &[]).await? {
            let (source, judged, rolled): (i32, i64, i64) = (row.get(1), row.get(2), row.get(3));
            let input = TopicPartition { topic: self.topic("user-actions"), partition: row.get(0) };
            let relayed = offsets.committed(&input).await?.unwrap_or(0);
            let counted = redis.hash_number("tm:counters", &source.to_string()).await?;
            behind += [relayed, rolled, counted].map(|at| (judged - at).max(0)).iter().sum::<i64>();
        }
        Ok(behind)
    }

    /// Drops what the measurement has filled: the next one shall not work beside it.
    pub async fn remove(self) -> anyhow::Result<()> {
        let connection = self.postgres().await?;
        connection.client.batch_execute(&format!("drop schema {} cascade", self.id)).await?;
        redis::Connection::open(&self.redis_url).await?.flush_database().await?;
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &self.brokers).create()?;
        let topics: Vec<_> = topic::all().iter().map(|it| self.topic(&it.name)).collect();
        let topics: Vec<_> = topics.iter().map(String::as_str).collect();
        admin.delete_topics(&topics, &AdminOptions::new()).await?;
        Ok(())
    }
}

fn named(variable: &str) -> anyhow::Result<String> {
    std::env::var(variable).with_context(|| format!("{variable} is not set: run `./dev bench`"))
}

/// Of the first server named in a list or URL.
fn port(address: &str) -> Option<u16> {
    let host = address.split("://").last()?.split(['/', ',']).next()?;
    host.rsplit(':').next()?.parse().ok()
}
