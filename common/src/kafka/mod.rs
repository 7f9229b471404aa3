//! The one home of rdkafka: consumers, producers, transactions and topics, as the daemons need them.

mod admin;
mod bootstrap;
mod consumer;
mod offsets;
mod producer;
mod range;
mod record;
mod scan;
mod tail;
mod transaction;

pub use admin::{TopicId, ensure_topics, topic_id};
pub use consumer::{GroupConsumer, GroupEvent, PartitionReader, Partitions, ReadLimits};
pub use offsets::{Committed, GroupOffsets, Watermarks};
pub use producer::{Delivery, Outgoing, Producer, PublishError};
pub use range::RangeReader;
pub use rdkafka::error::KafkaError;
pub use record::{Headers, Record, RecordBatch, TopicPartition};
pub use scan::greatest_origin;
pub use tail::TopicReader;
pub use transaction::{TransactionError, TransactionalProducer};

use std::time::Duration;

use rdkafka::ClientConfig;

use crate::config::KafkaConfig;

/// How long a single request to the brokers may take before it counts as failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What all our clients have in common.
fn client_config(config: &KafkaConfig) -> ClientConfig {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", &config.kafka_brokers)
        .set("client.id", "tallyman")
        .set("allow.auto.create.topics", "false")
        // Back within a second of a broker's restart, instead of librdkafka's ten.
        .set("reconnect.backoff.max.ms", "1000")
        .set("socket.keepalive.enable", "true");
    for option in &config.kafka_options {
        client.set(&option.key, option.value.reveal());
    }
    client
}

/// What our consumers have in common: committed data only, and no position but the one we name.
fn consumer_config(config: &KafkaConfig, group: &str) -> ClientConfig {
    let mut client = client_config(config);
    client
        .set("group.id", group)
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error");
    client
}

/// The same for who must see what is not decided yet.
fn undecided(mut consumer: ClientConfig) -> ClientConfig {
    consumer.set("isolation.level", "read_uncommitted");
    consumer
}

/// Whether the log does not hold the offset that was asked for.
pub fn is_offset_reset(error: &KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode::{AutoOffsetReset, OffsetOutOfRange};
    matches!(error.rdkafka_error_code(), Some(AutoOffsetReset | OffsetOutOfRange))
}
