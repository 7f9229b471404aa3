//! Relay: unique events, dead letters and the group's offset in one Kafka transaction, by one
//! transactional producer per source partition.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::config::KafkaConfig;
use common::failpoint::kill_point;
use common::kafka::{
    Committed, GroupOffsets, Outgoing, TopicPartition, TransactionError, TransactionalProducer,
    greatest_origin,
};
use common::{topic, trace};
use deadpool_postgres::{Pool, Transaction};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::read_back::{self, Stored};
use super::{FollowError, Follower, Memory, Offer, Share};
use crate::batch::{Candidate, DeadLetter, Judged, Source};

/// Where the relay of a group writes.
#[derive(Debug, Clone)]
pub struct RelayTopics {
    pub kafka: KafkaConfig,
    pub group: String,
    pub unique_actions: String,
    pub dead_letters: String,
}

impl RelayTopics {
    pub fn new(kafka: &KafkaConfig, group: &str) -> Self {
        let named = |topic: &topic::Topic| format!("{}{}", kafka.kafka_topic_prefix, topic.name);
        Self {
            kafka: kafka.clone(),
            group: group.to_owned(),
            unique_actions: named(&topic::UNIQUE_ACTIONS),
            dead_letters: named(&topic::DEAD_LETTERS),
        }
    }
}

/// What one record after the other is written in.
#[derive(Default)]
struct Text {
    key: String,
    value: Vec<u8>,
    origin: String,
}

impl Text {
    fn clear(&mut self) {
        self.key.clear();
        self.value.clear();
        self.origin.clear();
    }
}

/// Relays one source. Creating it fences whoever relayed the source before.
pub struct Relay {
    topics: RelayTopics,
    offsets: GroupOffsets,
    pool: Pool,
    source: Arc<Source>,
    start_offset: i64,
    /// None after a failed transaction: its state is unknown, so a new one takes over.
    producer: Option<TransactionalProducer>,
    mirrored_at: Instant,
    mirroring: JoinSet<()>,
}

impl Relay {
    /// What is larger does not fit the output topics.
    const RECORD_BYTES_MAX: usize = 4_000_000;
    /// What the output topics take at once.
    const BATCH_BYTES: usize = 4_000_000;
    const MIRROR_EVERY: Duration = Duration::from_secs(5);

    pub async fn fence(
        topics: RelayTopics,
        offsets: GroupOffsets,
        pool: Pool,
        source: Arc<Source>,
        start_offset: i64,
    ) -> Result<Self, FollowError> {
        let mut relay = Self {
            topics,
            offsets,
            pool,
            source,
            start_offset,
            producer: None,
            mirrored_at: Instant::now(),
            mirroring: JoinSet::new(),
        };
        relay.take_over().await?;
        Ok(relay)
    }

    /// The identity is that of the partition, not of the member: it is what fences (tried; group
    /// metadata does not).
    async fn take_over(&mut self) -> Result<(), FollowError> {
        let partition = &self.source.partition;
        let id = format!("{}/{partition}", self.topics.group);
        let (kafka, offsets) = (&self.topics.kafka, self.offsets.clone());
        let fenced = TransactionalProducer::fence_with(kafka, &id, offsets, Self::BATCH_BYTES);
        self.producer = Some(fenced.await?);
        Ok(())
    }

    async fn transact(
        &self,
        producer: &TransactionalProducer,
        judged: &[Arc<Judged>],
        to: i64,
    ) -> Result<(), TransactionError> {
        producer.begin()?;
        kill_point("relay_before_send");
        let mut text = Text::default();
        for batch in judged {
            let (mut stored, mut dead) =
                (batch.stored.iter().peekable(), batch.dead.iter().peekable());
            loop {
                // Both in offset order: a reader of either topic sees the source's order.
                match (stored.peek(), dead.peek()) {
                    (Some(row), Some(letter)) if letter.offset < row.offset => {
                        self.send_dead_letter(producer, letter).await?;
                        dead.next();
                    }
                    (Some(row), _) => {
                        self.send_unique(producer, row, &mut text).await?;
                        stored.next();
                    }
                    (None, Some(letter)) => {
                        self.send_dead_letter(producer, letter).await?;
                        dead.next();
                    }
                    (None, None) => break,
                }
            }
        }
        producer.flush().await?;
        kill_point("relay_before_commit");
        producer.commit(&self.source.partition, to).await?;
        kill_point("relay_after_commit");
        Ok(())
    }

    async fn send_unique(
        &self,
        producer: &TransactionalProducer,
        row: &Candidate,
        text: &mut Text,
    ) -> Result<(), TransactionError> {
        let event = &row.event;
        text.clear();
        match &event.object {
            Some(object) => text.key.extend([&*object.object_type, ":", &*object.id]),
            None => text.key.push_str(&event.user_id),
        }
        event.write_json(Some(row.received_at), &mut text.value);
        write!(text.origin, "{}/{}", self.source.partition, row.offset)
            .expect("a String takes all");
        let trace = row.trace.map(|place| place.to_string());
        let headers = [
            ("event_id", Some(event.event_id.as_bytes())),
            ("origin", Some(text.origin.as_bytes())),
            (trace::HEADER, trace.as_deref().map(str::as_bytes)),
        ];
        let record = Outgoing {
            topic: &self.topics.unique_actions,
            partition: None,
            key: Some(text.key.as_bytes()),
            value: Some(&text.value),
            headers: &headers[..if trace.is_some() { 3 } else { 2 }],
        };
        producer.send(&record).await
    }

    async fn send_dead_letter(
        &self,
        producer: &TransactionalProducer,
        letter: &DeadLetter,
    ) -> Result<(), TransactionError> {
        let mut headers = letter.headers.clone();
        let is_ours = |name: &str| name.starts_with("error_") || name.starts_with("origin_");
        headers.0.retain(|(name, _)| !is_ours(name));
        headers.push("error_code", letter.code.as_str());
        headers.push("error_detail", letter.detail.as_str());
        headers.push("origin_topic", self.source.partition.topic.as_str());
        headers.push("origin_partition", self.source.partition.partition.to_string());
        headers.push("origin_offset", letter.offset.to_string());
        let whole = Outgoing {
            topic: &self.topics.dead_letters,
            partition: None,
            key: letter.key.as_deref(),
            value: letter.value.as_deref(),
            headers: &headers.pairs().collect::<Vec<_>>(),
        };
        if whole.size() <= Self::RECORD_BYTES_MAX {
            return producer.send(&whole).await;
        }
        // One record too large for the topic would wedge the relay for ever (tried): the table has it whole.
        headers.0.retain(|(name, _)| is_ours(name));
        if let Some(id) = letter.id {
            headers.push("value_in", format!("dead_letters/{id}"));
        }
        let headers = &headers.pairs().collect::<Vec<_>>();
        let topic = &self.topics.dead_letters;
        let told = Outgoing { topic, partition: None, key: None, value: None, headers };
        producer.send(&told).await
    }

    /// The group's offset was lost: what both topics hold of this source says how far it came.
    async fn recover(&self, mirrored: Option<i64>) -> Result<i64, FollowError> {
        let source = &self.source.partition;
        warn!(%source, mirrored, "the group's offset is lost or behind: reading the output topics");
        let topics = [&self.topics.unique_actions, &self.topics.dead_letters];
        let mut mark = mirrored.unwrap_or(self.start_offset);
        for topic in topics {
            let found = greatest_origin(&self.topics.kafka, topic, source).await;
            let found = found.map_err(FollowError::Unavailable)?;
            mark = mark.max(found.map_or(mark, |offset| offset + 1));
        }
        info!(%source, mark, "the relay goes on");
        Ok(mark)
    }

    /// The group's offset, where a transaction of the former owner's holds it back that Kafka calls
    /// complete. It had sent all it had, since the offset comes last: so it is committed.
    async fn committed_by_what_hangs(&mut self) -> Result<Option<i64>, FollowError> {
        let source = &self.source.partition;
        warn!(%source, "Kafka has left a transaction undecided that it calls complete; ending it");
        let producer = self.producer.take().ok_or(FollowError::Moved)?;
        let beside = TopicPartition { topic: self.topics.dead_letters.clone(), partition: 0 };
        producer.commit_what_hangs(&beside).await?;
        self.producer = Some(producer);
        let committed = self.offsets.committed(source).await;
        committed.map_err(|error| {
            FollowError::Unavailable(anyhow::Error::from(error).context(
                "read the group's offset, which a foreign transaction may hold back \
                 (kafka-transactions.sh finds it)",
            ))
        })
    }

    /// Lazy, since it is only needed on the day the group's offset is lost, and beside the relaying, since
    /// every write of it waits for the judge's lock on the ledger's row.
    fn mirror(&mut self, to: i64) {
        if self.mirrored_at.elapsed() < Self::MIRROR_EVERY {
            return;
        }
        self.mirrored_at = Instant::now();
        while self.mirroring.try_join_next().is_some() {}
        let (pool, source) = (self.pool.clone(), self.source.number);
        self.mirroring.spawn(async move {
            if let Err(error) = mirror(&pool, source, to).await {
                warn!("the relay's mark could not be mirrored: {error:#}");
            }
        });
    }
}

async fn mirror(pool: &Pool, source: i32, to: i64) -> anyhow::Result<()> {
    let client = pool.get().await?;
    let statement = client.prepare_cached(include_str!("mirror_relay_mark.sql")).await?;
    client.execute(&statement, &[&source, &to]).await?;
    Ok(())
}

/// The relay needs all of a batch.
impl Share for Arc<Judged> {
    /// About 30 MiB of small events.
    const READ_BACK_STEP: i64 = 20_000;
    /// Whole events read back cost Postgres more than to store them; a relay that stands still must not
    /// stop the judge all the same.
    const PATIENCE: Duration = Duration::from_millis(200);

    fn of(offer: &Offer) -> Self {
        offer.judged.clone()
    }

    async fn read(on: &Transaction<'_>, of: &Stored) -> Result<Self, tokio_postgres::Error> {
        read_back::judged(on, of).await.map(Arc::new)
    }

    fn range(&self) -> Range<i64> {
        self.from..self.to
    }

    fn since(&self, offset: i64) -> Option<Self> {
        Some(Arc::new(Judged::since(self, offset)))
    }

    fn events(&self) -> usize {
        self.stored.len()
    }

    fn size(&self) -> usize {
        Judged::size(self)
    }

    fn room(memory: &Memory) -> &Arc<Semaphore> {
        &memory.batches
    }
}

impl Follower for Relay {
    const NAME: &'static str = "relay";
    type Share = Arc<Judged>;

    fn gather(&self) -> Duration {
        Duration::from_millis(5)
    }

    async fn mark(&mut self) -> Result<i64, FollowError> {
        if self.producer.is_none() {
            self.take_over().await?;
        }
        let asked = self.offsets.committed_if_decided(&self.source.partition).await;
        let committed = match asked.map_err(|error| FollowError::Unavailable(error.into()))? {
            Committed::Decided(offset) => offset,
            Committed::Undecided => self.committed_by_what_hangs().await?,
        };
        let client = self.pool.get().await?;
        let sql = include_str!("read_relay_mirror.sql");
        let row = client.query_one(sql, &[&self.source.number]).await?;
        let (mirrored, judged_any): (Option<i64>, bool) = (row.get(0), row.get(1));
        match committed {
            Some(committed) if mirrored.is_none_or(|mirrored| committed >= mirrored) => {
                Ok(committed)
            }
            None if !judged_any => Ok(self.start_offset),
            _ => self.recover(mirrored).await,
        }
    }

    async fn apply(&mut self, judged: &[Self::Share]) -> Result<i64, FollowError> {
        let Some(to) = judged.last().map(|last| last.to) else { return Err(FollowError::Moved) };
        let producer = self.producer.take().ok_or(FollowError::Moved)?;
        self.transact(&producer, judged, to).await?;
        self.producer = Some(producer);
        self.mirror(to);
        Ok(to)
    }
}

impl From<TransactionError> for FollowError {
    fn from(error: TransactionError) -> Self {
        match error {
            TransactionError::Fenced => Self::Fenced,
            TransactionError::Failed(error) => Self::Unavailable(error.into()),
        }
    }
}
