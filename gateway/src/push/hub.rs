//! Reads one topic for all who listen to it here: from Kafka, once, while there is anybody.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use common::config::KafkaConfig;
use common::kafka::{
    GroupOffsets, KafkaError, Record, TopicPartition, TopicReader, Watermarks, ensure_topics,
    is_offset_reset, topic_id,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::cursor::{Incarnation, Positions};
use super::message::Message;
use super::ring::{Entry, Ring};
use super::stream::Stream;
use crate::metrics::GatewayMetrics;

/// Records of each partition that are read again when the reading begins: who was connected to a
/// gateway that went away a moment ago resumes from memory.
const BACKLOG_RECORDS: i64 = 1_000;

/// The reading goes on for so long after the last listener has left: it may be back at once.
const LINGER: Duration = Duration::from_secs(60);

/// A pause after a failure to open the topic, which a new attempt at once would meet again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Who connects does not wait longer for a topic that cannot be opened.
const OPEN_TIME_MAX: Duration = Duration::from_secs(5);

/// Sockets that read from Kafka what the ring no longer has; others wait for their turn, since each
/// is a consumer of its own.
const CATCH_UPS_MAX: usize = 8;

/// After so long a turn goes to others who wait: a client decides how slowly it takes what it missed.
const CATCH_UP_TURN: Duration = Duration::from_secs(10);

/// How often it is looked whether the topic has got more partitions.
const PARTITIONS_CHECK: Duration = Duration::from_secs(30);

pub struct Hub {
    pub stream: Stream,
    kafka: KafkaConfig,
    topic: String,
    offsets: GroupOffsets,
    ring_bytes_max: usize,
    listeners: watch::Sender<usize>,
    /// None while nothing is read.
    ring: watch::Sender<Option<Arc<Ring>>>,
    catch_ups: Arc<Semaphore>,
    metrics: GatewayMetrics,
}

/// Keeps a topic being read.
pub struct Listening(Arc<Hub>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.listeners.send_modify(|count| *count -= 1);
    }
}

/// Reads for one socket what the ring no longer has.
pub struct CatchUp {
    turn: OwnedSemaphorePermit,
    began: Instant,
    pub reader: TopicReader,
}

impl CatchUp {
    /// Whether others wait who have waited long enough.
    pub fn must_yield(&self) -> bool {
        self.began.elapsed() > CATCH_UP_TURN && self.turn.semaphore().available_permits() == 0
    }
}

impl Hub {
    pub fn new(
        stream: Stream,
        kafka: &KafkaConfig,
        offsets: &GroupOffsets,
        ring_bytes_max: usize,
        metrics: &GatewayMetrics,
    ) -> Self {
        Self {
            stream,
            kafka: kafka.clone(),
            topic: format!("{}{}", kafka.kafka_topic_prefix, stream.topic().name),
            offsets: offsets.clone(),
            ring_bytes_max,
            listeners: watch::Sender::new(0),
            ring: watch::Sender::new(None),
            catch_ups: Arc::new(Semaphore::new(CATCH_UPS_MAX)),
            metrics: metrics.clone(),
        }
    }

    /// From now on the topic is read, until the returned is dropped.
    pub fn listen(self: &Arc<Self>) -> Listening {
        self.listeners.send_modify(|count| *count += 1);
        Listening(self.clone())
    }

    /// The ring that is being filled, as soon as there is one; none when Kafka cannot be read.
    pub async fn ring(&self) -> Option<Arc<Ring>> {
        let mut ring = self.ring.subscribe();
        let opened = async { ring.wait_for(Option::is_some).await.ok()?.clone() };
        tokio::time::timeout(OPEN_TIME_MAX, opened).await.ok().flatten()
    }

    /// A reader for what lies before the ring, once it is its turn.
    pub async fn catch_up(&self, from: &[i64]) -> Result<CatchUp, KafkaError> {
        let turn = self.catch_ups.clone().acquire_owned().await;
        let turn = turn.expect("the semaphore is never closed");
        self.metrics.push_catch_ups_total.with_label_values(&[self.stream.name()]).inc();
        let reader = TopicReader::open(&self.kafka, &self.topic, from)?;
        Ok(CatchUp { turn, began: Instant::now(), reader })
    }

    /// What each partition of the topic holds now, up to what is decided (read_committed).
    pub async fn watermarks(&self, partitions: usize) -> anyhow::Result<Vec<Watermarks>> {
        let mut marks = Vec::with_capacity(partitions);
        for partition in 0..i32::try_from(partitions)? {
            let source = TopicPartition { topic: self.topic.clone(), partition };
            marks.push(self.offsets.watermarks(&source).await?);
        }
        Ok(marks)
    }

    /// Reads while anybody listens, and a little longer.
    pub async fn run(&self, stop: CancellationToken) {
        let mut listeners = self.listeners.subscribe();
        let mut trouble = false;
        loop {
            let somebody = listeners.wait_for(|count| *count > 0);
            if !matches!(stop.run_until_cancelled(somebody).await, Some(Ok(_))) {
                return;
            }
            let ended = stop.run_until_cancelled(self.read()).await;
            if let Some(ring) = self.ring.send_replace(None) {
                ring.ended.cancel();
            }
            match ended {
                None => return,
                Some(Ok(())) => trouble = false,
                Some(Err(error)) => {
                    if !trouble {
                        warn!(topic = self.topic, "listeners wait: {error:#}");
                    }
                    trouble = true;
                    stop.run_until_cancelled(tokio::time::sleep(RETRY_PAUSE)).await;
                }
            }
        }
    }

    /// Fills one ring after the other until nobody has listened for a while.
    async fn read(&self) -> anyhow::Result<()> {
        let ring = Arc::new(self.open().await.with_context(|| format!("open {}", self.topic))?);
        self.ring.send_replace(Some(ring.clone()));
        info!(topic = self.topic, "reading for those who listen");
        let mut reader = TopicReader::open(&self.kafka, &self.topic, &ring.newest().1)?;
        loop {
            tokio::select! {
                filled = self.fill(&ring, &mut reader) => filled?,
                () = self.nobody_listens() => {
                    info!(topic = self.topic, "nobody listens any more");
                    return Ok(());
                }
                grown = self.grows(&ring) => anyhow::ensure!(!grown, "the topic has more partitions"),
            }
        }
    }

    /// A ring that begins a little before the end of the log.
    async fn open(&self) -> anyhow::Result<Ring> {
        let mut partitions = self.offsets.partition_count(&self.topic).await?;
        if partitions == 0 {
            // Its producer has never run yet.
            ensure_topics(&self.kafka, &[self.stream.topic()]).await?;
            partitions = self.offsets.partition_count(&self.topic).await?;
        }
        let incarnation = Incarnation::from(topic_id(&self.kafka, &self.topic).await?);
        let marks = self.watermarks(usize::try_from(partitions)?).await?;
        let from: Positions =
            marks.iter().map(|mark| mark.low.max(mark.high - BACKLOG_RECORDS)).collect();
        let began_at = marks.iter().map(|mark| mark.high).collect();
        Ok(Ring::new(self.stream, incarnation, from, began_at, self.ring_bytes_max))
    }

    /// Reads until it fails in a way that only a new ring mends.
    async fn fill(&self, ring: &Ring, reader: &mut TopicReader) -> anyhow::Result<()> {
        loop {
            match reader.read().await {
                Ok(records) if records.is_empty() => {}
                Ok(records) => ring.push(self.entries(ring, records)),
                Err(error) => {
                    let lost = if is_offset_reset(&error) { "its place in" } else { "touch with" };
                    debug!(topic = self.topic, %error, "the reader lost {lost} the topic");
                    return Err(error.into());
                }
            }
        }
    }

    fn entries(&self, ring: &Ring, records: Vec<(usize, Record)>) -> Vec<Entry> {
        let mut at = ring.newest().1.to_vec();
        let mut entries = Vec::with_capacity(records.len());
        for (partition, record) in records {
            at[partition] = record.offset + 1;
            let Some(shown) = self.stream.show(partition, &record) else {
                self.metrics.push_unreadable_total.with_label_values(&[self.stream.name()]).inc();
                continue;
            };
            let message = Message::new(&shown.open_json, &ring.cursor(&at));
            let (offset, at) = (record.offset, at.as_slice().into());
            entries.push(Entry { partition, offset, at, facets: shown.facets, message });
        }
        entries
    }

    /// Resolves when nobody has listened for a while.
    async fn nobody_listens(&self) {
        let mut listeners = self.listeners.subscribe();
        loop {
            if listeners.wait_for(|count| *count == 0).await.is_err() {
                return;
            }
            let back = listeners.wait_for(|count| *count > 0);
            if tokio::time::timeout(LINGER, back).await.is_err() {
                return;
            }
        }
    }

    /// Whether partitions were added, after a while.
    async fn grows(&self, ring: &Ring) -> bool {
        loop {
            tokio::time::sleep(PARTITIONS_CHECK).await;
            let count = self.offsets.partition_count(&self.topic).await;
            if count.is_ok_and(|count| count as usize > ring.began_at.len()) {
                return true;
            }
        }
    }
}
