//! An idempotent producer that answers when the in-sync replicas have a record.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::Producer as _;
use rdkafka::producer::future_producer::{DeliveryFuture, FutureProducer, FutureRecord};
use tracing::{info, warn};

use super::bootstrap::Bootstrap;
use crate::config::KafkaConfig;

/// A record on its way out.
#[derive(Debug, Clone)]
pub struct Outgoing<'a> {
    pub topic: &'a str,
    /// Where it goes; `None` leaves it to the key's hash.
    pub partition: Option<i32>,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// Names and values.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

impl Outgoing<'_> {
    pub(super) fn owned_headers(&self) -> OwnedHeaders {
        let none = OwnedHeaders::new_with_capacity(self.headers.len());
        self.headers.iter().fold(none, |all, &(key, value)| all.insert(Header { key, value }))
    }
}

/// Why a record is not known to be in the log. It may be there all the same, except after
/// [`PublishError::Full`] and [`PublishError::Refused`].
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("the producer's queue is full")]
    Full,
    #[error("the brokers are away")]
    Away(#[source] KafkaError),
    #[error("the brokers refused the record")]
    Refused(#[source] KafkaError),
}

/// Knows whether any broker can be reached.
#[derive(Clone, Default)]
struct Reachability(Arc<AtomicBool>);

impl Reachability {
    fn set_away(&self, away: bool) {
        if self.0.swap(away, Ordering::Relaxed) != away {
            if away { warn!("all brokers are away") } else { info!("a broker is back") }
        }
    }
}

impl ClientContext for Reachability {
    fn error(&self, error: KafkaError, reason: &str) {
        match error {
            KafkaError::Global(RDKafkaErrorCode::AllBrokersDown) => self.set_away(true),
            _ => tracing::debug!(%error, reason, "librdkafka reports"),
        }
    }
}

/// Publishes records; cheap to clone.
#[derive(Clone)]
pub struct Producer {
    inner: FutureProducer<Reachability>,
    reachability: Reachability,
    bootstrap: Arc<Mutex<Bootstrap>>,
}

impl Producer {
    /// `linger` is how long a record may wait for others to share its request.
    pub fn connect(
        config: &KafkaConfig,
        linger: Duration,
        delivery_timeout: Duration,
        queue_kbytes_max: usize,
    ) -> Result<Self, KafkaError> {
        let reachability = Reachability::default();
        let inner = super::client_config(config)
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.type", "lz4")
            // The partitioner of the Java client: the same key goes to the same partition
            // whichever client sends it.
            .set("partitioner", "murmur2_random")
            .set("linger.ms", (linger.as_secs_f64() * 1000.0).to_string())
            .set("message.timeout.ms", delivery_timeout.as_millis().to_string())
            .set("message.max.bytes", "4194304")
            .set("queue.buffering.max.messages", "200000")
            .set("queue.buffering.max.kbytes", queue_kbytes_max.to_string())
            .create_with_context(reachability.clone())?;
        let bootstrap = Arc::new(Mutex::new(Bootstrap::new(&config.kafka_brokers)));
        Ok(Self { inner, reachability, bootstrap })
    }

    /// False from the moment the last broker is lost until [`Producer::probe`] reaches one again.
    pub fn is_reachable(&self) -> bool {
        !self.reachability.0.load(Ordering::Relaxed)
    }

    /// Asks the cluster for a topic; says whether a broker answered.
    pub async fn probe(&self, topic: &str) -> bool {
        let inner = self.inner.clone();
        let topic = topic.to_owned();
        let answered = tokio::task::spawn_blocking(move || {
            inner.client().fetch_metadata(Some(&topic), Duration::from_secs(2)).is_ok()
        })
        .await
        .unwrap_or(false);
        self.reachability.set_away(!answered);
        if !answered {
            let mut bootstrap = self.bootstrap.lock().unwrap_or_else(PoisonError::into_inner);
            bootstrap.remind(self.inner.client());
            bootstrap.lost();
        }
        answered
    }

    /// Why this producer can never send again, if that is so: only a new process has a new one.
    pub fn fatal_error(&self) -> Option<String> {
        self.inner.client().fatal_error().map(|(_code, reason)| reason)
    }

    /// Queues a record; the answer comes with the returned [`Delivery`].
    pub fn publish(&self, record: &Outgoing<'_>) -> Result<Delivery, PublishError> {
        let mut message = FutureRecord::<[u8], [u8]>::to(record.topic);
        message.partition = record.partition;
        message.key = record.key;
        message.payload = record.value;
        if !record.headers.is_empty() {
            message = message.headers(record.owned_headers());
        }
        match self.inner.send_result(message) {
            Ok(delivery) => Ok(Delivery(delivery)),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                Err(PublishError::Full)
            }
            Err((error, _)) => Err(PublishError::Refused(error)),
        }
    }

    /// Waits until everything queued was answered.
    pub async fn flush(&self, timeout: Duration) -> Result<(), KafkaError> {
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || inner.flush(timeout))
            .await
            .expect("flush does not panic")
    }
}

/// Resolves when the in-sync replicas have the record, or when that can no longer be hoped for.
pub struct Delivery(DeliveryFuture);

impl Future for Delivery {
    type Output = Result<(), PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_unpin(cx).map(|answer| match answer {
            Ok(Ok(_delivered)) => Ok(()),
            Ok(Err((error, _message))) => Err(classify(error)),
            Err(_canceled) => Err(PublishError::Away(KafkaError::Canceled)),
        })
    }
}

/// What no retry can mend is refused; everything else may have reached the log.
fn classify(error: KafkaError) -> PublishError {
    match error.rdkafka_error_code() {
        Some(
            RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::InvalidMessage
            | RDKafkaErrorCode::InvalidRecord
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic,
        ) => PublishError::Refused(error),
        _ => PublishError::Away(error),
    }
}
