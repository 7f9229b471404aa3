//! A subscriber of topics that copies each partition elsewhere, from where that place says it is.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use common::config::KafkaConfig;
use common::kafka::{
    GroupConsumer, GroupOffsets, Partitions, ReadLimits, RecordBatch, TopicPartition,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::group::{self, Left};

/// A place that records are copied to.
pub trait Place: Send + Sync + 'static {
    /// What it keeps of a partition while it is ours; dropped when the partition is given up.
    type Held: Send;

    /// What it is called in the log.
    fn name(&self) -> &'static str;

    /// Takes a partition; tells the first offset it does not hold, if it holds any.
    fn take(
        &self,
        source: &TopicPartition,
    ) -> impl Future<Output = anyhow::Result<(Self::Held, Option<i64>)>> + Send;

    /// Stores a batch. An error means that it may or may not be there: the partition is taken
    /// again, and the place asked where it is.
    fn store(
        &self,
        held: &mut Self::Held,
        batch: &RecordBatch,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// What is subscribed to, and by whom.
#[derive(Clone)]
pub struct Subscription {
    pub kafka: KafkaConfig,
    pub group: String,
    pub topics: Vec<String>,
    pub offsets: GroupOffsets,
    pub limits: ReadLimits,
}

impl Subscription {
    /// Copies the partitions that the group gives us until `shutdown`.
    pub async fn copy_to<P: Place>(
        self,
        place: Arc<P>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let topics: Vec<_> = self.topics.iter().map(String::as_str).collect();
        let consumer = GroupConsumer::join(&self.kafka, &self.group, &topics)?;
        let partitions = consumer.partitions();
        let subscription = Arc::new(self);
        let start = move |source, stop| {
            let copying = Copying {
                subscription: subscription.clone(),
                partitions: partitions.clone(),
                place: place.clone(),
                source,
            };
            copying.until(stop)
        };
        group::share(consumer, start, || (), &shutdown).await
    }
}

/// One partition on its way to a place.
struct Copying<P> {
    subscription: Arc<Subscription>,
    partitions: Partitions,
    place: Arc<P>,
    source: TopicPartition,
}

impl<P: Place> Copying<P> {
    async fn until(self, stop: CancellationToken) -> anyhow::Result<Left> {
        let mut opened = false;
        match stop.run_until_cancelled(self.copy_for_ever(&mut opened)).await {
            None => Ok(if opened { Left::Opened } else { Left::Closed }),
            Some(never) => match never? {},
        }
    }

    async fn copy_for_ever(&self, opened: &mut bool) -> anyhow::Result<Infallible> {
        loop {
            let lost = match self.copy_from_position(opened).await {
                Err(lost) => lost,
                Ok(never) => match never {},
            };
            // A rebalance under way refuses commits, for one: nothing is stored twice.
            info!(source = %self.source, reason = format!("{lost:#}"),
                "the {} reads its partition again", self.place.name());
            if std::mem::take(opened) {
                self.partitions.release([&self.source])?;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn copy_from_position(&self, opened: &mut bool) -> anyhow::Result<Infallible> {
        let marks = self.subscription.offsets.watermarks(&self.source).await?;
        let (mut held, position) = self.place.take(&self.source).await?;
        let position = position.unwrap_or(marks.low);
        if position < marks.low {
            // They are gone for everybody: to stop would not bring them back.
            error!(source = %self.source, position, low = marks.low,
                "the {} missed what retention deleted before it was read", self.place.name());
        }
        // Beyond the end: the topic was re-created or cut.
        let start = if position > marks.high { marks.low } else { position.max(marks.low) };
        let mut reader = self.partitions.open(&self.source, start)?;
        *opened = true;
        loop {
            if let Some(batch) = reader.read(self.subscription.limits).await? {
                self.place.store(&mut held, &batch).await?;
                // For a place that knows its position, this only shows how far it is.
                self.partitions.commit(&self.source, batch.to).await?;
            }
        }
    }
}
