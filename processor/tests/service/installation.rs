//! One installation of a test's own on the shared servers: topic prefix, schema, Redis database,
//! group; and the language in which the tests speak of it.

use std::ffi::OsStr;
use std::future::Future;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::{self, ExitCode, Stdio};
use std::time::Duration;

use clap::Parser;
use common::config::RedisConfig;
use common::daemon::Context;
use common::{migrate, postgres, redis};
use deadpool_postgres::Pool;
use fred::prelude::{Client as RedisClient, ClientLike, KeysInterface};
use processor::app::App;
use processor::config::{Cli, Command, Config};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

pub struct Installation {
    pub config: Config,
    pub pool: Pool,
    pub redis: RedisClient,
    producer: BaseProducer,
}

/// A processor that runs inside the test.
pub struct Running {
    pub context: Context,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    /// What a counter among the metrics stands at.
    pub fn metric(&self, name: &str) -> f64 {
        let families = self.context.registry.gather();
        let family = families.iter().find(|it| it.name() == name);
        family.unwrap().get_metric()[0].get_counter().get_value()
    }

    pub async fn stop(self) {
        self.context.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

impl Installation {
    pub async fn new() -> Self {
        let name = format!("t{}", Uuid::now_v7().simple());
        let config = config(&name, &own_redis_database().await);
        create_schema(&name).await;
        let pool = postgres::pool(&config.postgres, "test").unwrap();
        migrate::migrate(&mut pool.get().await.unwrap()).await.unwrap();
        let redis = connected(config.redis.redis_url.reveal()).await;
        let producer = client(&config).create().unwrap();
        Self { config, pool, redis, producer }
    }

    pub async fn start(&self) -> Running {
        let context = Context::default();
        let app = App::connect(self.config.clone(), &context).await.unwrap();
        let shutdown = context.shutdown.clone();
        #[allow(clippy::disallowed_methods, reason = "the test is the parent and awaits it")]
        let task = tokio::spawn(app.run(shutdown));
        Running { context, task }
    }

    pub fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.config.kafka.kafka_topic_prefix)
    }

    /// Writes values to one partition of `user-actions`; all are in the log when it returns.
    pub fn send(&self, partition: i32, values: &[String]) {
        let topic = self.topic("user-actions");
        for value in values {
            let record = BaseRecord::<(), _>::to(&topic).partition(partition).payload(value);
            self.producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        self.producer.flush(Duration::from_secs(10)).unwrap();
    }

    /// By kcat, which takes any bytes for a header.
    pub fn send_with_header(&self, partition: i32, header: &[u8], value: &str) {
        let mut kcat = process::Command::new("kcat");
        kcat.args(["-P", "-q", "-b", &self.config.kafka.kafka_brokers, "-t"]);
        kcat.args([&self.topic("user-actions"), "-p", &partition.to_string(), "-H"]);
        kcat.arg(OsStr::from_bytes(header)).stdin(Stdio::piped());
        let mut running = kcat.spawn().unwrap();
        running.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
        assert!(running.wait().unwrap().success());
    }

    pub async fn number(&self, sql: &str) -> i64 {
        self.pool.get().await.unwrap().query_one(sql, &[]).await.unwrap().get(0)
    }

    pub async fn execute(&self, sql: &str) {
        self.pool.get().await.unwrap().batch_execute(sql).await.unwrap();
    }

    pub async fn rows(&self) -> i64 {
        self.number("select count(*) from events").await
    }

    /// Waits until so many records are judged, and every follower has come as far.
    pub async fn drained(&self, consumed: i64) {
        let sql = "select (coalesce(sum(consumed), 0))::bigint from consumer_ledger";
        eventually("records are judged", async || self.number(sql).await >= consumed).await;
        eventually("the relay catches up", async || self.relayed().await).await;
        eventually("counters and rollups agree with the rows", async || self.counted().await).await;
    }

    async fn relayed(&self) -> bool {
        let offsets =
            common::kafka::GroupOffsets::of(&self.config.kafka, &self.config.consumer_group)
                .unwrap();
        let client = self.pool.get().await.unwrap();
        let sql = "select partition, next_offset, start_offset from consumer_ledger";
        for row in client.query(sql, &[]).await.unwrap() {
            let partition = common::kafka::TopicPartition {
                topic: self.topic("user-actions"),
                partition: row.get(0),
            };
            let committed = offsets.committed(&partition).await.unwrap();
            if committed.unwrap_or(row.get(2)) < row.get(1) {
                return false;
            }
        }
        true
    }

    async fn counted(&self) -> bool {
        let sql = "select (coalesce(sum(count), 0))::bigint from object_counts";
        let with_object = "select count(*) from events where object_type is not null";
        let trailing =
            "select count(*) from consumer_ledger l left join statistics_marks s using (source)
                         where l.next_offset > coalesce(s.next_offset, l.start_offset)";
        self.number(sql).await == self.number(with_object).await && self.number(trailing).await == 0
    }

    pub async fn likes(&self, post: &str) -> i64 {
        self.redis.get::<Option<i64>, _>(format!("post:{post}:likes")).await.unwrap().unwrap_or(0)
    }

    /// This installation's database only.
    pub async fn flush_redis(&self) {
        flush(&self.redis).await;
    }

    /// The committed records of a topic as (value, the header asked for), the whole of it.
    pub fn read_all(&self, topic: &str, header: &str) -> Vec<(String, String)> {
        let consumer: BaseConsumer = client(&self.config)
            .set("group.id", "test-reader")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .create()
            .unwrap();
        let topic = self.topic(topic);
        let metadata = consumer.fetch_metadata(Some(&topic), Duration::from_secs(10)).unwrap();
        let mut list = rdkafka::TopicPartitionList::new();
        for partition in metadata.topics()[0].partitions() {
            list.add_partition_offset(&topic, partition.id(), rdkafka::Offset::Beginning).unwrap();
        }
        consumer.assign(&list).unwrap();
        let mut open = list.count();
        let mut records = Vec::new();
        while open > 0 {
            match consumer.poll(Duration::from_secs(10)).expect("the topic can be read") {
                Ok(message) => {
                    let value = String::from_utf8_lossy(message.payload().unwrap_or_default());
                    let found = message.headers().and_then(|headers| {
                        let found = headers.iter().find(|it| it.key == header)?;
                        Some(String::from_utf8_lossy(found.value?).into_owned())
                    });
                    records.push((value.into_owned(), found.unwrap_or_default()));
                }
                Err(rdkafka::error::KafkaError::PartitionEOF(_)) => open -= 1,
                Err(error) => panic!("{error}"),
            }
        }
        records
    }

    /// The ids on the unique stream, in no order.
    pub fn unique_ids(&self) -> Vec<String> {
        let mut ids: Vec<_> =
            self.read_all("unique-actions", "event_id").into_iter().map(|it| it.1).collect();
        ids.sort();
        ids
    }

    pub fn admin(&self) -> (AdminClient<DefaultClientContext>, AdminOptions) {
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
        (client(&self.config).create().unwrap(), options)
    }

    pub async fn audit(&self) {
        let code = self.audited().await;
        assert_eq!(code, ExitCode::SUCCESS, "the audit finds drift (see its report)");
    }

    pub async fn audited(&self) -> ExitCode {
        let command = Command::Audit { config: Box::new(self.config.clone()), wait_seconds: 60 };
        processor::commands::run(command).await.unwrap()
    }
}

/// A like of a post under a given id.
pub fn like(id: &str, post: &str) -> String {
    format!(r#"{{"eventId":"{id}","userId":"u-{id}","postId":"{post}","type":"like"}}"#)
}

/// Waits for something to become true, for a minute at most.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so().await {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

pub fn client(config: &Config) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &config.kafka.kafka_brokers);
    client
}

fn server(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run the tests by ./dev test service"))
}

/// Takes the next of the server's databases and empties it. In turn, not by chance: two of a few
/// tests would meet in one of 255 every now and then (seen).
async fn own_redis_database() -> String {
    let redis_url = server("REDIS_URL");
    let server = redis_url.split('/').take(3).collect::<Vec<_>>().join("/");
    let first = connected(&server).await;
    let taken: u64 = first.incr("tests:databases-taken").await.unwrap();
    // fred reads an index as a byte.
    let url = format!("{server}/{}", 1 + taken % 255);
    flush(&connected(&url).await).await;
    url
}

async fn flush(redis: &RedisClient) {
    let _: () = redis.custom(fred::cmd!("FLUSHDB"), Vec::<String>::new()).await.unwrap();
}

async fn connected(redis_url: &str) -> RedisClient {
    let client = redis::client(&RedisConfig { redis_url: redis_url.into() }).unwrap();
    client.init().await.unwrap();
    client
}

fn config(name: &str, redis_url: &str) -> Config {
    let cli = Cli::try_parse_from([
        "processor",
        "run",
        "--kafka-brokers",
        &server("KAFKA_BROKERS"),
        "--kafka-topic-prefix",
        &format!("{name}-"),
        "--kafka-partitions",
        "2",
        "--consumer-group",
        name,
        "--database-url",
        &format!("{}?options=-c%20search_path%3D{name}", server("DATABASE_URL")),
        "--redis-url",
        redis_url,
        "--admin-listen",
        "127.0.0.1:0",
    ]);
    match cli.unwrap().command {
        Command::Run(config) => *config,
        _ => unreachable!("the command above is run"),
    }
}

async fn create_schema(name: &str) {
    let (client, connection) =
        tokio_postgres::connect(&server("DATABASE_URL"), tokio_postgres::NoTls).await.unwrap();
    let (created, _) = tokio::join!(
        async move { client.batch_execute(&format!("create schema {name}")).await },
        connection
    );
    created.unwrap();
}
