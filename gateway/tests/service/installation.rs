//! What a test speaks of: a gateway with a database and topics of its own, its answers, its records.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use common::config::{KafkaConfig, PostgresConfig, RedisConfig};
use common::daemon::Context;
use common::kafka::{GroupOffsets, RangeReader, Record, TopicPartition};
use fred::prelude::{Client as RedisClient, ClientLike, KeysInterface};
use gateway::App;
use gateway::auth::{KeyStore, Right};
use gateway::config::{Cli, Command};
use reqwest::header::HeaderMap;
use serde_json::Value;
use tokio::task::JoinSet;
use uuid::Uuid;

/// Long enough for a loaded machine; nobody waits so long for what works.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until it is so.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "waited in vain: {what}");
}

pub fn server(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run `./dev test`, or `. .dev/env` first")
    })
}

/// Databases and topics that no other test has.
pub struct Installation {
    database: String,
    database_url: String,
    brokers: String,
    redis_url: String,
    prefix: String,
}

impl Installation {
    pub async fn new() -> Self {
        Self::on(server("KAFKA_BROKERS")).await
    }

    /// With brokers of the test's own.
    pub async fn on(brokers: String) -> Self {
        common::tls::choose();
        let database = format!("gw_{}", Uuid::new_v4().simple());
        administer(&format!("create database {database}")).await;
        let url = server("DATABASE_URL");
        let (address, _shared) = url.rsplit_once('/').unwrap();
        let database_url = format!("{address}/{database}");
        let (mut client, connection) =
            tokio_postgres::connect(&database_url, tokio_postgres::NoTls).await.unwrap();
        let mut connections = JoinSet::new();
        connections.spawn(connection);
        common::migrate::migrate(&mut client).await.unwrap();
        let prefix = format!("{database}-");
        let redis_url = own_redis_database().await;
        Self { database, database_url, brokers, redis_url, prefix }
    }

    /// The same with a Redis of the test's own.
    pub fn with_redis(self, redis_url: String) -> Self {
        Self { redis_url, ..self }
    }

    /// The command line of a gateway of this installation.
    pub fn arguments<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        let mut all = vec!["gateway"];
        all.extend_from_slice(arguments);
        all.extend_from_slice(&["--database-url", &self.database_url]);
        all.extend_from_slice(&["--kafka-brokers", &self.brokers]);
        all.extend_from_slice(&["--kafka-topic-prefix", &self.prefix]);
        all.extend_from_slice(&["--redis-url", &self.redis_url]);
        all
    }

    pub fn cli(&self, settings: &[&str]) -> Cli {
        let mut run = vec!["run"];
        if !settings.contains(&"--gateway-listen") {
            run.extend_from_slice(&["--gateway-listen", "127.0.0.1:0"]);
        }
        run.extend_from_slice(settings);
        Cli::try_parse_from(self.arguments(&run)).unwrap()
    }

    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    fn postgres(&self) -> PostgresConfig {
        self.cli(&[]).postgres
    }

    pub fn kafka(&self) -> KafkaConfig {
        self.cli(&[]).kafka
    }

    pub fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub fn store(&self) -> KeyStore {
        KeyStore::new(common::postgres::pool(&self.postgres(), "test").unwrap())
    }

    pub async fn start(&self, settings: &[&str]) -> Gateway {
        let cli = self.cli(settings);
        let Command::Run(config) = &cli.command else { unreachable!("`run` was given") };
        let write_key = self.store().create("test", Right::Write).await.unwrap().secret;
        let context = Context::default();
        let app = App::connect(&cli, config, &context).await.unwrap();
        let address = app.local_addr();
        let mut running = JoinSet::new();
        running.spawn(app.run(context.shutdown.clone()));
        let client = reqwest::Client::new();
        Gateway { address, write_key, client, context, running }
    }

    /// Why a gateway with these settings does not start.
    pub async fn refusal(&self, settings: &[&str]) -> String {
        let cli = self.cli(settings);
        let Command::Run(config) = &cli.command else { unreachable!("`run` was given") };
        match App::connect(&cli, config, &Context::default()).await {
            Ok(_) => panic!("it started"),
            Err(error) => format!("{error:#}"),
        }
    }

    /// A client of this installation's Redis.
    pub async fn redis(&self) -> RedisClient {
        connected(&self.redis_url).await
    }

    pub async fn execute(&self, sql: &str) {
        run_in(&self.database_url, sql).await;
    }

    /// All records of `user-actions`, partition by partition.
    pub async fn records(&self) -> Vec<Record> {
        let config = self.kafka();
        let topic = format!("{}user-actions", self.prefix);
        let offsets = GroupOffsets::of(&config, "test").unwrap();
        let mut records = Vec::new();
        for partition in 0..offsets.partition_count(&topic).await.unwrap() {
            let source = TopicPartition { topic: topic.clone(), partition };
            let marks = offsets.watermarks(&source).await.unwrap();
            let mut reader = RangeReader::open(&config, &source, marks.low..marks.high).unwrap();
            while let Some(step) = reader.next().await.unwrap() {
                records.extend(step);
            }
        }
        records
    }

    /// The `eventId` of every record, sorted.
    pub async fn event_ids(&self) -> Vec<String> {
        let records = self.records().await;
        let mut ids: Vec<_> =
            records.iter().map(|record| json_of(record)["eventId"].clone()).collect();
        ids.sort_by_key(Value::to_string);
        ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    }

    /// No session comes in any more, and those that are in are cut: its own role's, for autovacuum's
    /// are a superuser's.
    pub async fn lock_database(&self) {
        administer(&format!("alter database {} allow_connections false", self.database)).await;
        administer(&format!(
            "select pg_terminate_backend(pid) from pg_stat_activity
              where datname = '{}' and usename = current_user",
            self.database
        ))
        .await;
    }

    pub async fn unlock_database(&self) {
        administer(&format!("alter database {} allow_connections true", self.database)).await;
    }
}

/// Runs a statement in the database that all tests share.
async fn administer(sql: &str) {
    run_in(&server("DATABASE_URL"), sql).await;
}

async fn run_in(database_url: &str, sql: &str) {
    let (client, connection) =
        tokio_postgres::connect(database_url, tokio_postgres::NoTls).await.unwrap();
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    client.batch_execute(sql).await.unwrap();
}

/// Takes the next of the server's databases and empties it: in turn, so that no two tests meet in one.
async fn own_redis_database() -> String {
    let redis_url = server("REDIS_URL");
    let server = redis_url.split('/').take(3).collect::<Vec<_>>().join("/");
    let taken: u64 = connected(&server).await.incr("tests:databases-taken").await.unwrap();
    // fred reads an index as a byte.
    let url = format!("{server}/{}", 1 + taken % 255);
    flush(&connected(&url).await).await;
    url
}

/// Forgets what is in one database.
pub async fn flush(redis: &RedisClient) {
    let _: () = redis.custom(fred::cmd!("FLUSHDB"), Vec::<String>::new()).await.unwrap();
}

async fn connected(redis_url: &str) -> RedisClient {
    let client = common::redis::client(&RedisConfig { redis_url: redis_url.into() }).unwrap();
    client.init().await.unwrap();
    client
}

pub fn json_of(record: &Record) -> Value {
    serde_json::from_slice(record.value.as_deref().unwrap()).unwrap()
}

/// A running gateway.
pub struct Gateway {
    pub address: SocketAddr,
    /// A key with the right `write`.
    pub write_key: String,
    pub client: reqwest::Client,
    pub context: Context,
    running: JoinSet<anyhow::Result<()>>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub json: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|it| it.to_str().unwrap()).unwrap_or_default()
    }

    /// Code and pointer of each result.
    pub fn reasons(&self) -> Vec<(&str, &str)> {
        let results = self.json["results"].as_array().unwrap().iter();
        results
            .filter(|result| result["status"] != "accepted")
            .map(|it| (it["code"].as_str().unwrap(), it["pointer"].as_str().unwrap_or("-")))
            .collect()
    }
}

impl Gateway {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A submission with the write key.
    pub fn request(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.post(self.url(path)).header("x-api-key", &self.write_key)
    }

    pub async fn submit(&self, body: impl Into<reqwest::Body>) -> Answer {
        self.submit_to("/api/events", body).await
    }

    pub async fn submit_to(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        answer(self.request(path).body(body)).await
    }

    pub async fn get(&self, path: &str) -> (u16, String) {
        let response = self.client.get(self.url(path)).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Stops as by SIGTERM and says how it ended.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.context.shutdown.cancel();
        self.running.join_next().await.unwrap().unwrap()
    }
}

pub async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.bytes().await.unwrap();
    let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Answer { status, headers, json }
}
