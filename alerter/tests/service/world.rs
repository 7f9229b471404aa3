//! What the tests speak: a world of its own topics and schema, alerters in it, actions and alerts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use alerter::app::App;
use alerter::config::{Cli, Command, Config};
use clap::Parser;
use common::config::KafkaConfig;
use common::daemon::{Context, init_logging};
use common::kafka::{
    GroupOffsets, Outgoing, Producer, RangeReader, Record, TopicPartition, TransactionalProducer,
    ensure_topics,
};
use common::notification::{Notification, Rule};
use common::topic;
use jiff::Timestamp;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Longer than anything takes on a busy machine; reached only by a failing test.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct World {
    id: String,
    database_url: String,
    pub kafka: KafkaConfig,
    producer: Producer,
    offsets: GroupOffsets,
    /// Further settings of every alerter in it.
    pub settings: Vec<String>,
    sent: std::cell::Cell<u64>,
}

/// A running alerter.
pub struct Alerter {
    context: Context,
    task: JoinSet<anyhow::Result<()>>,
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run these tests with `./dev test`, which starts the servers")
    })
}

impl World {
    pub async fn new() -> Self {
        Self::with_partitions(2).await
    }

    pub async fn with_partitions(partitions: i32) -> Self {
        let world = Self::unmigrated(partitions).await;
        world.migrate().await;
        world
    }

    /// Without the tables: what Postgres looks like to an alerter that came first.
    pub async fn unmigrated(partitions: i32) -> Self {
        let id = format!("alerter_{}", uuid::Uuid::now_v7().simple());
        let brokers = variable("KAFKA_BROKERS");
        let server = variable("DATABASE_URL");
        let database_url = format!("{server}?options=-c%20search_path%3D{id}");
        connect(&server).await.batch_execute(&format!("create schema {id}")).await.unwrap();
        let config = parse(&[
            format!("--kafka-brokers={brokers}"),
            format!("--kafka-topic-prefix={id}."),
            format!("--kafka-partitions={partitions}"),
        ]);
        init_logging(&config.1);
        let kafka = config.0.kafka;
        ensure_topics(&kafka, &[&topic::UNIQUE_ACTIONS]).await.unwrap();
        let linger = Duration::from_millis(1);
        Self {
            database_url,
            producer: Producer::connect(&kafka, linger, PATIENCE, 65_536).unwrap(),
            offsets: GroupOffsets::of(&kafka, &id).unwrap(),
            kafka,
            id,
            settings: Vec::new(),
            sent: 0.into(),
        }
    }

    pub async fn migrate(&self) {
        let mut client = connect(&self.database_url).await;
        common::migrate::migrate(&mut client).await.unwrap();
    }

    pub fn set(&mut self, flag: &str, value: impl std::fmt::Display) {
        self.settings.push(format!("--{flag}={value}"));
    }

    pub fn config(&self) -> Config {
        let own = [
            format!("--kafka-brokers={}", self.kafka.kafka_brokers),
            format!("--kafka-topic-prefix={}", self.kafka.kafka_topic_prefix),
            format!("--kafka-partitions={}", self.kafka.kafka_partitions),
            format!("--database-url={}", self.database_url),
            format!("--alerter-group={}", self.id),
            "--database-connections-max=2".to_owned(),
            "--admin-listen=127.0.0.1:0".to_owned(),
        ];
        parse(&[&own[..], &self.settings].concat()).0
    }

    /// Starts an alerter and waits until it watches what its group gave it.
    pub async fn start(&self) -> Alerter {
        let context = Context::default();
        let app = App::connect(self.config(), &context).await.unwrap();
        let mut task = JoinSet::new();
        task.spawn(app.run(context.shutdown.clone()));
        let readiness = context.readiness.clone();
        eventually("the alerter is ready", async || readiness.is_ready().then_some(())).await;
        Alerter { context, task }
    }

    pub fn topic(&self, topic: &topic::Topic) -> String {
        format!("{}{}", self.kafka.kafka_topic_prefix, topic.name)
    }

    pub fn group(&self) -> &str {
        &self.id
    }

    /// Sends actions as the processor does; returns when the broker has them.
    pub async fn send(&self, actions: &[Value]) {
        let topic = self.topic(&topic::UNIQUE_ACTIONS);
        let mut deliveries = Vec::new();
        for action in actions {
            let mut action = action.clone();
            self.sent.set(self.sent.get() + 1);
            action["eventId"] = format!("e{}", self.sent.get()).into();
            let text = |name: &str| action[name].as_str().unwrap_or_default().to_owned();
            let key = format!("{}:{}", text("objectType"), text("objectId"));
            let value = action.to_string();
            let record = Outgoing {
                topic: &topic,
                partition: None,
                key: Some(key.as_bytes()),
                value: Some(value.as_bytes()),
                headers: &[],
            };
            deliveries.push(self.producer.publish(&record).unwrap());
        }
        for delivery in deliveries {
            delivery.await.unwrap();
        }
    }

    /// Sends bytes that are no action into a partition.
    pub async fn send_bytes(&self, partition: i32, value: Option<&[u8]>) {
        let topic = self.topic(&topic::UNIQUE_ACTIONS);
        let partition = Some(partition);
        let record = Outgoing { topic: &topic, partition, key: None, value, headers: &[] };
        self.producer.publish(&record).unwrap().await.unwrap();
    }

    /// Waits until the group has committed every action that was sent.
    pub async fn wait_consumed(&self) {
        let topic = self.topic(&topic::UNIQUE_ACTIONS);
        eventually("all actions are consumed", async || {
            for partition in 0..self.kafka.kafka_partitions {
                let source = TopicPartition { topic: topic.clone(), partition };
                let high = self.offsets.watermarks(&source).await.ok()?.high;
                let committed = self.offsets.committed(&source).await.ok()?;
                if committed.unwrap_or(0) < high {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    /// Waits until every transaction is decided and visible everywhere; no alerter runs any more.
    /// Kafka shows a committed offset before it shows all records of the same transaction, so what
    /// is read before this may lack the last of them.
    pub async fn settle(&self) {
        let totals = format!("{}-totals", self.id);
        for (group, topic) in [(&self.id, &topic::UNIQUE_ACTIONS), (&totals, &topic::PARTIALS)] {
            for partition in 0..self.kafka.kafka_partitions {
                let id = format!("{group}/{}/{partition}", self.topic(topic));
                let offsets = self.offsets.clone();
                TransactionalProducer::fence(&self.kafka, &id, offsets).await.unwrap();
            }
        }
    }

    /// Makes Kafka forget how far the group has come; its members have left.
    pub async fn forget_offsets(&self) {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.kafka.kafka_brokers);
        let admin: AdminClient<DefaultClientContext> = client.create().unwrap();
        eventually("the group is empty and can be deleted", async || {
            let deleted = admin.delete_groups(&[self.group()], &AdminOptions::new()).await.unwrap();
            deleted[0].is_ok().then_some(())
        })
        .await;
    }

    /// Leaves the group's offset of the first partition in a transaction that nobody ends.
    pub async fn leave_offset_undecided(&self) {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.kafka.kafka_brokers);
        let mut producer = client.clone();
        producer.set("transactional.id", self.stranger()).set("transaction.timeout.ms", "600000");
        let producer: BaseProducer = producer.create().unwrap();
        let group: BaseConsumer = client.set("group.id", self.group()).create().unwrap();
        let mut offsets = TopicPartitionList::new();
        let topic = self.topic(&topic::UNIQUE_ACTIONS);
        offsets.add_partition_offset(&topic, 0, Offset::Offset(1)).unwrap();
        let group = group.group_metadata().unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        producer.begin_transaction().unwrap();
        producer.send_offsets_to_transaction(&offsets, &group, PATIENCE).unwrap();
        let source = TopicPartition { topic, partition: 0 };
        assert!(self.offsets.committed(&source).await.is_err(), "the offset is decided");
    }

    /// Aborts that transaction.
    pub async fn decide_offset(&self) {
        let offsets = self.offsets.clone();
        TransactionalProducer::fence(&self.kafka, &self.stranger(), offsets).await.unwrap();
    }

    fn stranger(&self) -> String {
        format!("{}-stranger", self.id)
    }

    /// The notifications that can be read now.
    pub async fn told(&self) -> Vec<Notification> {
        let records = self.records(&topic::NOTIFICATIONS).await;
        let values = records.iter().map(|it| it.value.as_deref().unwrap());
        values.map(|value| serde_json::from_slice(value).unwrap()).collect()
    }

    /// The committed records of a topic that can be read now.
    pub async fn records(&self, topic: &topic::Topic) -> Vec<Record> {
        let topic = self.topic(topic);
        let mut all = Vec::new();
        for partition in 0..self.offsets.partition_count(&topic).await.unwrap() {
            let source = TopicPartition { topic: topic.clone(), partition };
            let marks = self.offsets.watermarks(&source).await.unwrap();
            let mut reader =
                RangeReader::open(&self.kafka, &source, marks.low..marks.high).unwrap();
            while let Some(records) = reader.next().await.unwrap() {
                all.extend(records);
            }
        }
        all
    }

    pub async fn exists(&self, topic: &topic::Topic) -> bool {
        self.offsets.partition_count(&self.topic(topic)).await.is_ok_and(|it| it > 0)
    }

    pub async fn told_by(&self, rule: Rule) -> Vec<Notification> {
        let mut told = self.told().await;
        told.retain(|it| it.data.rule == rule);
        told.sort_by(|a, b| (a.time, &a.id).cmp(&(b.time, &b.id)));
        told
    }

    /// Waits until a rule has told about a subject.
    pub async fn wait_told(&self, rule: Rule, subject: &str) -> Notification {
        eventually(&format!("{} tells about {subject}", rule.name()), async || {
            self.told_by(rule).await.into_iter().find(|it| it.subject == subject)
        })
        .await
    }

    /// (key, milestone) → how often it was told.
    pub async fn milestones(&self) -> BTreeMap<(String, u64), usize> {
        let mut milestones = BTreeMap::new();
        for told in self.told_by(Rule::Milestone).await {
            assert_eq!(told.data.observed, told.data.expected, "{told:?}");
            *milestones.entry((told.data.key, told.data.expected as u64)).or_default() += 1;
        }
        milestones
    }

    pub async fn rows(&self) -> Vec<tokio_postgres::Row> {
        let columns = "id, rule, severity, status, subject, object_type, object_id, user_id, \
                       observed, expected, score, text, occurred_at, data";
        self.query(&format!("select {columns} from notifications order by id")).await
    }

    /// Connections of the test's own.
    pub fn pool(&self) -> deadpool_postgres::Pool {
        common::postgres::pool(&self.config().postgres, "alerter").unwrap()
    }

    pub async fn query(&self, statement: &str) -> Vec<tokio_postgres::Row> {
        connect(&self.database_url).await.query(statement, &[]).await.unwrap()
    }
}

impl Alerter {
    /// As SIGTERM does.
    pub async fn stop(mut self) {
        self.context.shutdown.cancel();
        self.task.join_next().await.unwrap().unwrap().unwrap();
    }

    /// Waits until it watches so many partitions.
    pub async fn wait_owns(&self, partitions: usize) {
        eventually(&format!("an alerter has {partitions} partitions"), async || {
            let owned = self.metric("alerter_partitions_owned");
            (owned == partitions as f64).then_some(())
        })
        .await;
    }

    /// Drops everything where it stands: nothing is finished, nothing committed.
    pub async fn crash(mut self) {
        self.task.shutdown().await;
    }

    /// The sum of a metric over its labels.
    pub fn metric(&self, name: &str) -> f64 {
        let families = self.context.registry.gather();
        let family = families.iter().find(|it| it.name() == name);
        let metrics = family.map(|it| it.get_metric()).unwrap_or_default();
        metrics.iter().map(|it| it.get_counter().get_value() + it.get_gauge().get_value()).sum()
    }
}

/// Asks until there is an answer. What is waited for comes; only a broken alerter keeps it away.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// An action of a user on a post, at a time in milliseconds.
pub fn action(event_type: &str, post: &str, at_ms: i64) -> Value {
    let at = Timestamp::from_millisecond(at_ms).unwrap();
    json!({
        "type": event_type, "userId": "fan", "objectType": "post", "objectId": post,
        "occurredAt": format!("{at:.3}"), "receivedAt": format!("{at:.3}"), "source": "test",
        "properties": {}, "context": {}
    })
}

/// Some likes of a post, spread over a time.
pub fn likes(post: &str, from_ms: i64, span_ms: i64, count: usize) -> Vec<Value> {
    let step = span_ms / count.max(1) as i64;
    (0..count as i64).map(|it| action("like", post, from_ms + it * step)).collect()
}

pub fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    // It ends with its client.
    #[allow(clippy::disallowed_methods)]
    tokio::spawn(connection);
    client
}

fn parse(args: &[String]) -> (Config, common::config::DaemonConfig) {
    let words = ["alerter", "run"].into_iter().map(str::to_owned).chain(args.iter().cloned());
    let cli = Cli::try_parse_from(words).unwrap();
    let Command::Run(config) = cli.command else { unreachable!("the command is `run`") };
    (*config, cli.daemon)
}
