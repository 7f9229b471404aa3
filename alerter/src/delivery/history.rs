//! The history of notifications: what the topic said, as rows of the table of that name.

use std::time::Duration;

use common::kafka::{GroupOffsets, RecordBatch, TopicPartition};
use deadpool_postgres::{Pool, PoolError};
use serde_json::Value;
use tracing::{error, warn};

use crate::delivery::is_about_the_rows;
use crate::delivery::subscriber::Place;
use crate::metrics::AlerterMetrics;

/// Where the notifications of all partitions go.
pub struct History {
    pub pool: Pool,
    pub offsets: GroupOffsets,
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

impl Place for History {
    type Held = ();

    fn name(&self) -> &'static str {
        "history"
    }

    /// The offset is committed after the rows: a crash between them repeats rows that are there
    /// already.
    async fn take(&self, source: &TopicPartition) -> anyhow::Result<((), Option<i64>)> {
        Ok(((), self.offsets.committed(source).await?))
    }

    async fn store(&self, _held: &mut (), batch: &RecordBatch) -> anyhow::Result<()> {
        self.insert_all(batch).await;
        Ok(())
    }
}

impl History {
    /// Returns when every notification of the batch is in the table, or is known not to fit.
    async fn insert_all(&self, batch: &RecordBatch) {
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
