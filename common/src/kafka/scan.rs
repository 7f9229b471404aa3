//! Reads a whole topic from its start to where it ends now: what a lost offset is found by.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::REQUEST_TIMEOUT;
use super::record::{Record, TopicPartition};
use crate::config::KafkaConfig;

/// The greatest offset of `source` that a topic's committed records name as their origin, in
/// either way our records name it.
pub async fn greatest_origin(
    config: &KafkaConfig,
    topic: &str,
    source: &TopicPartition,
) -> anyhow::Result<Option<i64>> {
    let consumer: BaseConsumer = super::consumer_config(config, "tallyman-scan")
        .set("enable.partition.eof", "true")
        .create()?;
    let (topic, source) = (topic.to_owned(), source.clone());
    tokio::task::spawn_blocking(move || {
        let mut greatest = None;
        each_record(&consumer, &topic, |record| {
            greatest = greatest.max(origin_in(record, &source));
        })?;
        Ok(greatest)
    })
    .await
    .context("scan a topic")?
}

fn each_record(
    consumer: &BaseConsumer,
    topic: &str,
    mut see: impl FnMut(&Record),
) -> anyhow::Result<()> {
    let metadata = consumer.fetch_metadata(Some(topic), REQUEST_TIMEOUT)?;
    let partitions = metadata.topics().first().map_or(&[][..], |it| it.partitions());
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
    }
    // Those read to an end; an end that moves is told again.
    let mut read = BTreeSet::new();
    consumer.assign(&list)?;
    while read.len() < partitions.len() {
        match consumer.poll(Duration::from_secs(30)) {
            Some(Ok(message)) => see(&Record::copy_of(&message)),
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(it))) => drop(read.insert(it)),
            Some(Err(error)) => return Err(error).context("read the topic"),
            None => anyhow::bail!("no answer while reading {topic}"),
        }
    }
    Ok(())
}

fn origin_in(record: &Record, source: &TopicPartition) -> Option<i64> {
    if let Some(origin) = record.headers.text("origin") {
        let (partition, offset) = origin.rsplit_once('/')?;
        return (partition == source.to_string()).then(|| offset.parse().ok())?;
    }
    let text = |name| record.headers.text(name);
    let same = text("origin_topic")? == source.topic
        && text("origin_partition")? == source.partition.to_string();
    same.then(|| text("origin_offset")?.parse().ok())?
}
