//! Hands events to `user-actions`; a delivery is answered only when the in-sync replicas have it.

use std::time::Duration;

use anyhow::{Context, bail};
use common::admin::Readiness;
use common::config::KafkaConfig;
use common::event::{CLOUD_EVENTS, EVENT_BYTES_MAX, Event, Identity};
use common::kafka::{
    Delivery, Headers, KafkaError, Outgoing, Producer, PublishError, ensure_topics,
};
use common::topic::USER_ACTIONS;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use crate::config::PublisherConfig;

/// What a record in flight costs besides its own bytes: librdkafka's books, headers, our delivery.
pub const RECORD_OVERHEAD_BYTES: usize = 1 << 10;

/// Room in librdkafka beyond the window: for a request larger than the window, and for records
/// whose request was abandoned.
const QUEUE_SPARE_KBYTES: usize = 32 << 10;

/// How often the brokers are looked at: a probe while they are away, a glance while they are not.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);

/// The largest of what is no event that still fits `max.message.bytes` of `user-actions`.
const REFUSED_BYTES_MAX: usize = EVENT_BYTES_MAX + (512 << 10);

/// By which way records came, told in their headers.
#[derive(Debug, Clone)]
pub struct Origin {
    pub surface: &'static str,
    /// Further headers of each record.
    pub headers: Headers,
}

pub struct Publisher {
    producer: Producer,
    topic: String,
    /// Told when an event was not acknowledged in time: the brokers may hang without a word.
    unanswered: Notify,
    window: Semaphore,
    window_bytes: u32,
}

impl Publisher {
    /// Makes sure that the topic is there and as it should be.
    pub async fn connect(kafka: &KafkaConfig, config: &PublisherConfig) -> anyhow::Result<Self> {
        ensure_topics(kafka, &[&USER_ACTIONS]).await?;
        let producer = Producer::connect(
            kafka,
            config.linger(),
            config.delivery_timeout(),
            config.gateway_window_kbytes as usize + QUEUE_SPARE_KBYTES,
        )
        .context("create a Kafka producer")?;
        let topic = format!("{}{}", kafka.kafka_topic_prefix, USER_ACTIONS.name);
        let window_bytes = config.gateway_window_kbytes << 10;
        Ok(Self {
            producer,
            topic,
            unanswered: Notify::new(),
            window: Semaphore::new(window_bytes as usize),
            window_bytes,
        })
    }

    /// Waits until so much may be on its way to the brokers, first come first served. What waits
    /// here is one body; on its way it is many records, which take several times the memory.
    pub async fn turn(&self, events: usize, bytes: usize) -> SemaphorePermit<'_> {
        let wanted = u32::try_from(bytes + events * RECORD_OVERHEAD_BYTES).unwrap_or(u32::MAX);
        let wanted = wanted.min(self.window_bytes);
        self.window.acquire_many(wanted).await.expect("the semaphore is never closed")
    }

    pub fn topic(&self) -> &str {
        &self.topic
    }

    pub fn window_bytes(&self) -> usize {
        self.window_bytes as usize
    }

    pub fn is_reachable(&self) -> bool {
        self.producer.is_reachable()
    }

    /// Queues an event in its canonical form. The key is the user: copies of one event meet in one
    /// partition, and one user's actions keep their order.
    pub fn publish(
        &self,
        event: &Event,
        canonical: &[u8],
        origin: &Origin,
    ) -> Result<Delivery, PublishError> {
        let surface = match event.identity {
            Identity::EventId => origin.surface,
            Identity::SourceAndId => CLOUD_EVENTS,
        };
        let own = [
            ("event_id", &*event.event_id),
            ("content-type", "application/json"),
            ("surface", surface),
        ];
        self.queue(Some(event.user_id.as_bytes()), Some(canonical), own, origin)
    }

    /// Queues what is no event and may not be refused: the processor accounts for it as a dead letter.
    pub fn publish_refused(
        &self,
        bytes: &[u8],
        code: &str,
        detail: &str,
        origin: &Origin,
    ) -> Result<Delivery, PublishError> {
        let own = [("error_code", code), ("error_detail", detail), ("surface", origin.surface)];
        // What no topic of ours would take leaves its reason alone.
        self.queue(None, Some(bytes).filter(|it| it.len() <= REFUSED_BYTES_MAX), own, origin)
    }

    fn queue(
        &self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        own: [(&str, &str); 3],
        origin: &Origin,
    ) -> Result<Delivery, PublishError> {
        let own = own.iter().map(|(name, value)| (*name, Some(value.as_bytes())));
        let headers: Vec<_> = own.chain(origin.headers.pairs()).collect();
        let (topic, headers) = (&self.topic, &headers);
        self.producer.publish(&Outgoing { topic, partition: None, key, value, headers })
    }

    /// Whether the brokers have the event; without an answer they are looked after.
    pub async fn delivered(&self, delivery: Delivery) -> Result<(), PublishError> {
        let answer = delivery.await;
        if matches!(answer, Err(PublishError::Away(_))) {
            self.unanswered.notify_one();
        }
        answer
    }

    /// Keeps readiness and reachability up to date. Ends with an error when the producer can never
    /// send again: only a new process has a new one.
    pub async fn watch(
        &self,
        readiness: &Readiness,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        loop {
            if let Some(reason) = self.producer.fatal_error() {
                bail!("the Kafka producer failed for good: {reason}");
            }
            let state = if self.is_reachable() { Ok(()) } else { Err("no broker answers".into()) };
            readiness.set("kafka", state);
            let suspicious = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.unanswered.notified() => true,
                () = tokio::time::sleep(WATCH_INTERVAL) => false,
            };
            if suspicious || !self.is_reachable() {
                self.producer.probe(&self.topic).await;
            }
        }
    }

    /// Waits until everything queued was answered: also what nobody waits for any more.
    pub async fn flush(&self, time_max: Duration) -> Result<(), KafkaError> {
        self.producer.flush(time_max).await
    }
}
