//! An idempotent producer that answers when the in-sync replicas have a record.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_util::FutureExt;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::util::IntoOpaque;
use tokio::sync::oneshot;
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

impl<'a> Outgoing<'a> {
    /// As rdkafka takes it; `opaque` comes back with the report of its delivery.
    pub(super) fn message<D: IntoOpaque>(&self, opaque: D) -> BaseRecord<'a, [u8], [u8], D> {
        let mut message = BaseRecord::with_opaque_to(self.topic, opaque);
        message.partition = self.partition;
        message.key = self.key;
        message.payload = self.value;
        if self.headers.is_empty() {
            return message;
        }
        let none = OwnedHeaders::new_with_capacity(self.headers.len());
        message.headers(
            self.headers.iter().fold(none, |all, &(key, value)| all.insert(Header { key, value })),
        )
    }

    /// Its bytes in a request, at most: lengths and differences of times and offsets beside its parts.
    pub fn size(&self) -> usize {
        const OVERHEAD: usize = 50;
        const HEADER_OVERHEAD: usize = 10;
        let bytes = |it: Option<&[u8]>| it.map_or(0, <[u8]>::len);
        let headers =
            self.headers.iter().map(|(name, it)| HEADER_OVERHEAD + name.len() + bytes(*it));
        OVERHEAD + bytes(self.key) + bytes(self.value) + headers.sum::<usize>()
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

impl ProducerContext for Reachability {
    type DeliveryOpaque = Box<oneshot::Sender<KafkaResult<()>>>;

    fn delivery(&self, result: &DeliveryResult<'_>, answer: Self::DeliveryOpaque) {
        let answered = result.as_ref().map(drop).map_err(|(error, _message)| error.clone());
        let _nobody_waits = answer.send(answered);
    }
}

/// A producer whose reports are fetched by a thread of its own. rdkafka's own kind spins for the last
/// millisecond of each 100, since its timeouts are whole ones: most of what an idle gateway did.
struct Polled {
    producer: Arc<BaseProducer<Reachability>>,
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Polled {
    /// To end takes as long at most.
    const POLL: Duration = Duration::from_millis(500);

    fn new(producer: BaseProducer<Reachability>) -> Self {
        let producer = Arc::new(producer);
        let stop = Arc::new(AtomicBool::new(false));
        let poll = {
            let (producer, stop) = (producer.clone(), stop.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    producer.poll(Self::POLL);
                }
            }
        };
        let thread = thread::Builder::new().name("kafka reports".to_owned()).spawn(poll);
        Self { producer, thread: Some(thread.expect("a thread can be started")), stop }
    }
}

/// librdkafka must be at rest before the process ends.
impl Drop for Polled {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _it_panicked = thread.join();
        }
    }
}

/// Publishes records; cheap to clone.
#[derive(Clone)]
pub struct Producer {
    inner: Arc<Polled>,
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
        let inner: BaseProducer<Reachability> = super::client_config(config)
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
        Ok(Self { inner: Arc::new(Polled::new(inner)), reachability, bootstrap })
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
            inner.producer.client().fetch_metadata(Some(&topic), Duration::from_secs(2)).is_ok()
        })
        .await
        .unwrap_or(false);
        self.reachability.set_away(!answered);
        if !answered {
            let mut bootstrap = self.bootstrap.lock().unwrap_or_else(PoisonError::into_inner);
            bootstrap.remind(self.inner.producer.client());
            bootstrap.lost();
        }
        answered
    }

    /// Why this producer can never send again, if that is so: only a new process has a new one.
    pub fn fatal_error(&self) -> Option<String> {
        self.inner.producer.client().fatal_error().map(|(_code, reason)| reason)
    }

    /// Queues a record; the answer comes with the returned [`Delivery`].
    pub fn publish(&self, record: &Outgoing<'_>) -> Result<Delivery, PublishError> {
        let (answer, delivery) = oneshot::channel();
        match self.inner.producer.send(record.message(Box::new(answer))) {
            Ok(()) => Ok(Delivery(delivery)),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                Err(PublishError::Full)
            }
            Err((error, _)) => Err(PublishError::Refused(error)),
        }
    }

    /// Waits until everything queued was answered.
    pub async fn flush(&self, timeout: Duration) -> Result<(), KafkaError> {
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || inner.producer.flush(timeout))
            .await
            .expect("flush does not panic")
    }
}

/// Resolves when the in-sync replicas have the record, or when that can no longer be hoped for.
pub struct Delivery(oneshot::Receiver<KafkaResult<()>>);

impl Future for Delivery {
    type Output = Result<(), PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_unpin(cx).map(|answer| match answer {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(classify(error)),
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
