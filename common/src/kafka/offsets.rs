//! What a group has committed and what a partition still holds.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::KafkaResult;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::REQUEST_TIMEOUT;
use super::record::TopicPartition;
use crate::config::KafkaConfig;

/// The first offset that is still there, and the one after the last that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    pub low: i64,
    pub high: i64,
}

/// What a group has committed, as far as Kafka tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// None when it never was or has expired.
    Decided(Option<i64>),
    /// A transaction holds it back that does not come to an end.
    Undecided,
}

/// Reads the offsets of a group without being a member of it.
///
/// Transactions commit offsets under this identity too: the broker checks the member, not the
/// partition (tried), so membership fences nobody; the transactional id does.
#[derive(Clone)]
pub struct GroupOffsets(Arc<Asker>);

struct Asker {
    config: ClientConfig,
    client: Mutex<Arc<Client>>,
}

struct Client {
    consumer: BaseConsumer,
    made_at: Instant,
}

impl GroupOffsets {
    /// A client may never recover from an outage: it has forgotten every broker, or goes on to
    /// answer "unknown partition" (librdkafka 2.12.1, both seen). After an error a new one asks.
    const CLIENT_AGE_MIN: Duration = Duration::from_secs(3);

    pub fn of(config: &KafkaConfig, group: &str) -> KafkaResult<Self> {
        Self::asking_with(super::consumer_config(config, group))
    }

    /// Those who do not wait for transactions: `committed` is what the decided ones have left, and
    /// `watermarks` end where the log does, not where the first undecided record is.
    pub fn undecided(config: &KafkaConfig, group: &str) -> KafkaResult<Self> {
        Self::asking_with(super::undecided(super::consumer_config(config, group)))
    }

    fn asking_with(config: ClientConfig) -> KafkaResult<Self> {
        let client = Mutex::new(Client::new(&config)?);
        Ok(Self(Arc::new(Asker { config, client })))
    }

    /// The committed offset of one partition; none when it never was or has expired. Waits while
    /// a transaction on it is being decided.
    pub async fn committed(&self, source: &TopicPartition) -> KafkaResult<Option<i64>> {
        let source = source.clone();
        self.blocking(move |consumer| {
            let mut list = TopicPartitionList::new();
            list.add_partition(&source.topic, source.partition);
            let offsets = consumer.committed_offsets(list, REQUEST_TIMEOUT)?;
            let Some(found) = offsets.find_partition(&source.topic, source.partition) else {
                return Ok(None);
            };
            // An error has no offset either: it must not pass for a group that never committed.
            found.error()?;
            Ok(match found.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            })
        })
        .await
    }

    /// The same, where the transaction may be one of which Kafka has lost the end.
    pub async fn committed_if_decided(&self, source: &TopicPartition) -> KafkaResult<Committed> {
        match self.committed(source).await {
            Ok(offset) => Ok(Committed::Decided(offset)),
            Err(error) => {
                // It is undecided if whoever does not mind gets an answer.
                let careless = Self::asking_with(super::undecided(self.0.config.clone()))?;
                careless.committed(source).await.map_err(|_| error)?;
                Ok(Committed::Undecided)
            }
        }
    }

    pub async fn watermarks(&self, source: &TopicPartition) -> KafkaResult<Watermarks> {
        let source = source.clone();
        self.blocking(move |consumer| {
            let (low, high) =
                consumer.fetch_watermarks(&source.topic, source.partition, REQUEST_TIMEOUT)?;
            Ok(Watermarks { low, high })
        })
        .await
    }

    /// How many partitions a topic has.
    pub async fn partition_count(&self, topic: &str) -> KafkaResult<i32> {
        let topic = topic.to_owned();
        self.blocking(move |consumer| {
            let metadata = consumer.fetch_metadata(Some(&topic), REQUEST_TIMEOUT)?;
            let count = metadata.topics().first().map_or(0, |it| it.partitions().len());
            Ok(i32::try_from(count).expect("Kafka counts partitions in 32 bits"))
        })
        .await
    }

    pub(super) fn metadata(&self) -> ConsumerGroupMetadata {
        let client = self.0.client();
        client.consumer.group_metadata().expect("a consumer with a group id has group metadata")
    }

    async fn blocking<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&BaseConsumer) -> KafkaResult<T> + Send + 'static,
    ) -> KafkaResult<T> {
        let asker = self.0.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let client = asker.client();
            let answer = ask(&client.consumer);
            if answer.is_err() && client.made_at.elapsed() > Self::CLIENT_AGE_MIN {
                asker.renew(&client)?;
            }
            answer
        });
        asked.await.expect("a query does not panic")
    }
}

impl Asker {
    fn client(&self) -> Arc<Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces a client, unless somebody else has done so.
    fn renew(&self, old: &Arc<Client>) -> KafkaResult<()> {
        let new = Client::new(&self.config)?;
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&client, old) {
            *client = new;
        }
        Ok(())
    }
}

impl Client {
    fn new(config: &ClientConfig) -> KafkaResult<Arc<Self>> {
        let consumer = config.create()?;
        Ok(Arc::new(Self { consumer, made_at: Instant::now() }))
    }
}
