//! A consumer group member that hands out partitions one by one, each with a queue of its own.
//!
//! The rebalance callback only passes the list on: who takes a partition knows better where it
//! starts (its ledger) and when it may end (after its commit).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use rdkafka::client::ClientContext;
use rdkafka::consumer::stream_consumer::StreamPartitionQueue;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Message, Offset, TopicPartitionList};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::bootstrap::Bootstrap;
use super::record::{Record, RecordBatch, TopicPartition};
use crate::config::KafkaConfig;

/// What a member of a group is told.
#[derive(Debug)]
pub enum GroupEvent {
    /// These partitions are mine to take.
    Assigned(Vec<TopicPartition>),
    /// These are to be given up: finish, then [`Partitions::release`] them.
    Revoked(Vec<TopicPartition>),
    /// Something that concerns no single partition; librdkafka goes on by itself.
    Trouble(KafkaError),
}

struct Rebalances {
    events: mpsc::UnboundedSender<GroupEvent>,
    closing: AtomicBool,
    /// The group waits for us to release what it revoked.
    owes_release: AtomicBool,
}

impl ClientContext for Rebalances {}

impl ConsumerContext for Rebalances {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        if self.closing.load(Ordering::SeqCst) {
            // Nobody listens any more, and closing waits for this answer, to an assignment too.
            match code {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                    let _nothing_new = consumer.incremental_assign(&TopicPartitionList::new());
                }
                _ => release_all(consumer),
            }
            return;
        }
        let partitions = list
            .elements()
            .iter()
            .map(|it| TopicPartition { topic: it.topic().to_owned(), partition: it.partition() })
            .collect();
        let event = match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                // An empty assign ends the rebalance for the group at once: taking a partition
                // may wait for Postgres, and the group must not wait for that.
                if let Err(error) = consumer.incremental_assign(&TopicPartitionList::new()) {
                    warn!(%error, "the rebalance could not be answered");
                }
                GroupEvent::Assigned(partitions)
            }
            _ => {
                self.owes_release.store(true, Ordering::SeqCst);
                GroupEvent::Revoked(partitions)
            }
        };
        // The receiver lives as long as the consumer; after it nobody needs the news.
        let _receiver_gone = self.events.send(event);
    }
}

/// One member of a consumer group.
pub struct GroupConsumer {
    inner: Arc<StreamConsumer<Rebalances>>,
    events: mpsc::UnboundedReceiver<GroupEvent>,
    bootstrap: Bootstrap,
}

impl GroupConsumer {
    /// Joins the group. Nothing is read before a partition is opened.
    pub fn join(config: &KafkaConfig, group: &str, topics: &[&str]) -> KafkaResult<Self> {
        let (sender, events) = mpsc::unbounded_channel();
        let inner: StreamConsumer<Rebalances> = super::consumer_config(config, group)
            // The only strategy under which partitions can be opened and closed one by one.
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", "10000")
            .set("heartbeat.interval.ms", "2000")
            .set("max.poll.interval.ms", "120000")
            .set("fetch.wait.max.ms", "50")
            .set("fetch.message.max.bytes", "2097152")
            .set("fetch.max.bytes", "4194304")
            .set("queued.min.messages", "10000")
            // Per partition, since every partition has a queue of its own.
            .set("queued.max.messages.kbytes", "2048")
            // A full queue is looked at again after this; by default a second later, in which a
            // reader that is quick waits for most of the time (measured: a drain of 47,000 events/s
            // whatever else was done).
            .set("fetch.queue.backoff.ms", "5")
            .create_with_context(Rebalances {
                events: sender,
                closing: AtomicBool::new(false),
                owes_release: AtomicBool::new(false),
            })?;
        inner.subscribe(topics)?;
        let bootstrap = Bootstrap::new(&config.kafka_brokers);
        Ok(Self { inner: Arc::new(inner), events, bootstrap })
    }

    /// The next thing to react to. Must be awaited all the time: it also keeps the membership.
    pub async fn next(&mut self) -> GroupEvent {
        loop {
            tokio::select! {
                biased;
                Some(event) = self.events.recv() => return event,
                () = self.bootstrap.due() => self.bootstrap.remind(self.inner.client()),
                received = self.inner.recv() => match received {
                    Err(error) => {
                        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
                            self.bootstrap.lost();
                        }
                        return GroupEvent::Trouble(error);
                    }
                    Ok(stray) => debug!(offset = stray.offset(), "a record outside the queues"),
                },
            }
        }
    }

    /// A handle that opens and releases partitions, for those who do not listen to the group.
    pub fn partitions(&self) -> Partitions {
        Partitions(self.inner.clone())
    }

    /// Leaves the group; all partitions were released and all handles dropped before.
    pub async fn leave(self) {
        self.inner.context().closing.store(true, Ordering::SeqCst);
        self.inner.unsubscribe();
        let closed = tokio::task::spawn_blocking(move || drop(self)).await;
        if let Err(error) = closed {
            warn!(%error, "leaving the consumer group failed; its session will time out");
        }
    }
}

/// A member that is dropped instead of leaving (its task was aborted) must not wait for an answer
/// that nobody will give: closing it would hang for ever (tried). Nor may it answer what nobody
/// asked: a second answer can meet a closed group, and hangs as well (tried).
impl Drop for GroupConsumer {
    fn drop(&mut self) {
        self.inner.context().closing.store(true, Ordering::SeqCst);
        if self.inner.context().owes_release.swap(false, Ordering::SeqCst) {
            release_all(&*self.inner);
        }
    }
}

fn release_all<C: ConsumerContext>(consumer: &impl Consumer<C>) {
    // Both fail only where there is nothing to release.
    if let Ok(opened) = consumer.assignment() {
        let _nothing_to_answer = consumer.incremental_unassign(&opened);
    }
}

/// Opens and releases the partitions of one member.
#[derive(Clone)]
pub struct Partitions(Arc<StreamConsumer<Rebalances>>);

impl Partitions {
    /// Starts to read a partition at an offset.
    pub fn open(&self, source: &TopicPartition, offset: i64) -> KafkaResult<PartitionReader> {
        // The queue is split off first: what is fetched must not reach the common queue.
        let queue = self
            .0
            .split_partition_queue(&source.topic, source.partition)
            .ok_or(KafkaError::Subscription(format!("no queue for {source}")))?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&source.topic, source.partition, Offset::Offset(offset))?;
        self.0.incremental_assign(&list)?;
        Ok(PartitionReader {
            consumer: self.0.clone(),
            queue,
            source: source.clone(),
            next: offset,
        })
    }

    /// Stops reading partitions. `opened` are those that had been opened; the group waits for this
    /// answer to a revocation even when none was.
    pub fn release<'a>(
        &self,
        opened: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        for source in opened {
            list.add_partition(&source.topic, source.partition);
        }
        self.0.context().owes_release.store(false, Ordering::SeqCst);
        self.0.incremental_unassign(&list)
    }

    /// Commits the group's offset in a partition, for readers whose work ends outside Kafka.
    pub async fn commit(&self, source: &TopicPartition, next: i64) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&source.topic, source.partition, Offset::Offset(next))?;
        let consumer = self.0.clone();
        tokio::task::spawn_blocking(move || consumer.commit(&list, CommitMode::Sync))
            .await
            .expect("a commit does not panic")
    }
}

/// How much one batch may hold, and how long it may take to fill.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimits {
    pub events_max: usize,
    pub bytes_max: usize,
    pub age_max: Duration,
}

/// The records of one opened partition, in offset order.
pub struct PartitionReader {
    consumer: Arc<StreamConsumer<Rebalances>>,
    queue: StreamPartitionQueue<Rebalances>,
    source: TopicPartition,
    next: i64,
}

impl PartitionReader {
    /// Waits at most this long for a first record before it looks whether the position moved.
    const IDLE: Duration = Duration::from_millis(200);

    /// The next batch: full, or old enough. Without records it says how far the log has moved on
    /// (control records of transactions), or `None` when it has not.
    ///
    /// Cancel it only to drop the reader: records it already took are gone with it.
    pub async fn read(&mut self, limits: ReadLimits) -> KafkaResult<Option<RecordBatch>> {
        let from = self.next;
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut stream = self.queue.stream();
        let mut deadline = Instant::now() + Self::IDLE;
        while records.len() < limits.events_max && bytes < limits.bytes_max {
            let received = match stream.next().now_or_never() {
                Some(received) => received,
                None => match tokio::time::timeout_at(deadline, stream.next()).await {
                    Ok(received) => received,
                    Err(_elapsed) => break,
                },
            };
            let message = received.expect("a partition queue never ends")?;
            let Some(record) = fresh(&message, self.next) else { continue };
            if records.is_empty() {
                deadline = Instant::now() + limits.age_max;
            }
            self.next = record.offset + 1;
            bytes += record.size();
            records.push(record);
        }
        drop(stream);
        if records.is_empty() {
            self.next = self.next.max(self.position()?);
        }
        Ok((self.next > from).then_some(RecordBatch { from, to: self.next, records }))
    }

    /// What lies before an offset is not given.
    pub fn skip_to(&mut self, next: i64) {
        self.next = self.next.max(next);
    }

    /// Control records move the position though no record arrives (tried): without this the last
    /// transaction of a producer would look like lag for ever.
    fn position(&self) -> KafkaResult<i64> {
        let positions = self.consumer.position()?;
        let mine = positions.find_partition(&self.source.topic, self.source.partition);
        Ok(match mine.map(|it| it.offset()) {
            Some(Offset::Offset(offset)) => offset,
            _ => self.next,
        })
    }
}

/// A copy of the record, unless it lies before the position (left over from an earlier opening).
fn fresh(message: &BorrowedMessage<'_>, next: i64) -> Option<Record> {
    (message.offset() >= next).then(|| Record::copy_of(message))
}
