//! The history of notifications: what the topic said, as rows of the table of that name.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use common::kafka::{
    GroupOffsets, KafkaError, Partitions, ReadLimits, RecordBatch, TopicPartition,
};
use deadpool_postgres::{Pool, PoolError};
use serde_json::Value;
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::group::Left;
use crate::metrics::AlerterMetrics;

/// What all partitions of the topic share.
pub struct History {
    pub pool: Pool,
    pub offsets: GroupOffsets,
    pub limits: ReadLimits,
    pub metrics: AlerterMetrics,
}

/// Why a batch is not in the table, by what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// Wait, and try the same batch again.
    #[error("postgres is unavailable")]
    Unavailable(#[source] PoolError),
    /// Find the one that cannot be stored.
    #[error("postgres refused a batch of {rows} notifications")]
    Refused { rows: usize, source: tokio_postgres::Error },
}

impl History {
    /// Copies a partition of the topic into the table until it is to be given up. The offset is
    /// committed after the rows: a crash between them repeats rows that are there already.
    pub async fn copy(
        self: Arc<Self>,
        partitions: Partitions,
        source: TopicPartition,
        stop: CancellationToken,
    ) -> anyhow::Result<Left> {
        let mut opened = false;
        let copied = self.copy_for_ever(&partitions, &source, &mut opened);
        match stop.run_until_cancelled(copied).await {
            None => Ok(if opened { Left::Opened } else { Left::Closed }),
            Some(never) => match never? {},
        }
    }

    async fn copy_for_ever(
        &self,
        partitions: &Partitions,
        source: &TopicPartition,
        opened: &mut bool,
    ) -> anyhow::Result<Infallible> {
        loop {
            let lost = match self.copy_from_committed(partitions, source, opened).await {
                Err(lost) => lost,
                Ok(never) => match never {},
            };
            // A rebalance under way refuses commits, for one: what is repeated does not double.
            info!(%source, reason = %lost, "the history reads its partition again");
            if std::mem::take(opened) {
                partitions.release([source])?;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn copy_from_committed(
        &self,
        partitions: &Partitions,
        source: &TopicPartition,
        opened: &mut bool,
    ) -> Result<Infallible, KafkaError> {
        let marks = self.offsets.watermarks(source).await?;
        let committed = self.offsets.committed(source).await?.unwrap_or(marks.low);
        // Out of range: the topic was re-created or cut. Rows that are there already do not double.
        let start = if committed > marks.high { marks.low } else { committed.max(marks.low) };
        let mut reader = partitions.open(source, start)?;
        *opened = true;
        loop {
            if let Some(batch) = reader.read(self.limits).await? {
                self.store(&batch).await;
                partitions.commit(source, batch.to).await?;
            }
        }
    }

    /// Returns when every notification of the batch is in the table, or is known not to fit.
    async fn store(&self, batch: &RecordBatch) {
        let values = batch.records.iter().filter_map(|record| {
            let value = record.value.as_deref().unwrap_or_default();
            let parsed: Result<Value, _> = serde_json::from_slice(value);
            if let Err(error) = &parsed {
                error!(offset = record.offset, %error, "a notification is no JSON");
                self.metrics.history_refused_total.inc();
            }
            parsed.ok()
        });
        let events: Vec<_> = values.collect();
        match self.insert_patiently(&events).await {
            Ok(()) => {}
            Err(_refused) if events.len() > 1 => {
                for event in &events {
                    self.store_alone(event).await;
                }
            }
            Err(_refused) => self.store_alone(&events[0]).await,
        }
    }

    async fn store_alone(&self, event: &Value) {
        if let Err(error) = self.insert_patiently(std::slice::from_ref(event)).await {
            self.metrics.history_refused_total.inc();
            error!(id = %event["id"], %error, "postgres refused a notification; only the topic has it");
        }
    }

    /// Tries until Postgres has answered; what it then refuses, it will always refuse.
    async fn insert_patiently(&self, events: &[Value]) -> Result<(), tokio_postgres::Error> {
        let mut pause = Duration::from_millis(100);
        let mut was_said = false;
        loop {
            match self.insert(events).await {
                Ok(()) => return Ok(()),
                Err(HistoryError::Refused { source, .. }) => return Err(source),
                Err(error @ HistoryError::Unavailable(_)) => {
                    if !std::mem::replace(&mut was_said, true) {
                        let cause = std::error::Error::source(&error).map(ToString::to_string);
                        warn!(cause, "{error}; the history waits");
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(2));
                }
            }
        }
    }

    /// Adds notifications to the table, in one statement.
    pub async fn insert(&self, events: &[Value]) -> Result<(), HistoryError> {
        if events.is_empty() {
            return Ok(());
        }
        let client = self.pool.get().await.map_err(HistoryError::Unavailable)?;
        let inserted = async {
            let statement = client.prepare_cached(include_str!("insert_notifications.sql")).await?;
            client.execute(&statement, &[&events]).await
        };
        match inserted.await {
            Ok(_rows) => {
                self.metrics.history_rows_total.inc_by(events.len() as u64);
                Ok(())
            }
            Err(source) if is_about_the_rows(&source) => {
                Err(HistoryError::Refused { rows: events.len(), source })
            }
            Err(source) => Err(HistoryError::Unavailable(PoolError::Backend(source))),
        }
    }
}

/// Class 22 (data exception) and 23 (a constraint) concern what we sent; all else the server.
fn is_about_the_rows(error: &tokio_postgres::Error) -> bool {
    let class = |state: &SqlState| matches!(state.code().get(..2), Some("22" | "23"));
    error.code().is_some_and(class)
}
