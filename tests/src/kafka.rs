//! What the tests ask of Kafka: a topic from its first to its last committed record, and to forget topics.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use common::kafka::Headers;
use common::topic;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _};
use rdkafka::{Message, Offset, TopicPartitionList};

/// A record with the place it was read from.
#[derive(Debug, Clone)]
pub struct Read {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Headers,
}

impl Read {
    fn copy_of(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map(|headers| {
            headers.iter().map(|it| (it.key.to_owned(), it.value.map(<[u8]>::to_vec))).collect()
        });
        Self {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: Headers(headers.unwrap_or_default()),
        }
    }

    pub fn json(&self) -> anyhow::Result<serde_json::Value> {
        let value = self.value.as_deref().context("a record without a value")?;
        serde_json::from_slice(value).context("a record that is not JSON")
    }
}

/// Every committed record of a topic, partition by partition in offset order.
pub async fn read_all(brokers: &str, topic: &str) -> anyhow::Result<Vec<Read>> {
    let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
    tokio::task::spawn_blocking(move || read_to_the_end(&brokers, &topic)).await?
}

fn read_to_the_end(brokers: &str, topic: &str) -> anyhow::Result<Vec<Read>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "tests-read-all")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "20")
        .set("allow.auto.create.topics", "false")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10))?;
    let partitions = metadata.topics().first().map_or(0, |it| it.partitions().len());
    let mut list = TopicPartitionList::new();
    for partition in 0..i32::try_from(partitions)? {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let mut records = Vec::new();
    let mut ended = vec![false; partitions];
    let began = Instant::now();
    while ended.contains(&false) {
        match consumer.poll(Duration::from_secs(1)) {
            Some(Ok(message)) => records.push(Read::copy_of(&message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => ended[partition as usize] = true,
            // On a loaded machine a broker that was just started is lost now and then, and found again.
            Some(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::BrokerTransportFailure,
            )))
            | None
                if began.elapsed() < Duration::from_secs(60) => {}
            Some(Err(error)) => return Err(error).with_context(|| format!("read {topic}")),
            None => bail!("{topic} did not end within 60 s; {} records so far", records.len()),
        }
    }
    records.sort_by_key(|it| (it.partition, it.offset));
    Ok(records)
}

/// Deletes the topics of the installation with this prefix.
pub async fn delete_topics(brokers: &str, prefix: &str) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let names: Vec<_> = topic::all().iter().map(|it| format!("{prefix}{}", it.name)).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(5)));
    admin.delete_topics(&names, &options).await?;
    Ok(())
}
