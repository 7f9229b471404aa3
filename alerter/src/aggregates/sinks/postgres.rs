//! The table `action_aggregates`: rows and the offset they came from in one transaction.

use anyhow::{Context, ensure};
use common::config::KafkaConfig;
use common::failpoint::kill_point;
use common::kafka::{RecordBatch, TopicId, TopicPartition, topic_id};
use deadpool_postgres::{Pool, Transaction};
use serde_json::Value;
use tracing::error;

use crate::delivery::is_about_the_rows;
use crate::delivery::subscriber::Place;
use crate::metrics::AlerterMetrics;

pub struct Postgres {
    kafka: KafkaConfig,
    pool: Pool,
    metrics: AlerterMetrics,
}

/// A partition of a topic that another of the same name cannot be taken for.
pub struct Held {
    topic_id: TopicId,
    source: TopicPartition,
}

impl Postgres {
    pub fn new(kafka: KafkaConfig, pool: Pool, metrics: AlerterMetrics) -> Self {
        Self { kafka, pool, metrics }
    }

    fn stored(&self, rows: u64) {
        self.metrics.aggregates_stored_total.with_label_values(&["postgres"]).inc_by(rows);
    }

    fn refused(&self, offset: i64, error: &dyn std::fmt::Display) {
        self.metrics.aggregates_refused_total.with_label_values(&["postgres"]).inc();
        error!(offset, %error, "postgres refused a window; only the topic has it");
    }
}

impl Place for Postgres {
    type Held = Held;

    fn name(&self) -> &'static str {
        "table of windows"
    }

    async fn take(&self, source: &TopicPartition) -> anyhow::Result<(Held, Option<i64>)> {
        let held =
            Held { topic_id: topic_id(&self.kafka, &source.topic).await?, source: source.clone() };
        let client = self.pool.get().await.context("postgres is unavailable")?;
        let statement = client.prepare_cached(include_str!("read_sink_offset.sql")).await?;
        let row = client.query_opt(&statement, &[&held.topic_id, &source.partition]).await?;
        Ok((held, row.map(|row| row.get(0))))
    }

    async fn store(&self, held: &mut Held, batch: &RecordBatch) -> anyhow::Result<()> {
        let mut windows = Vec::with_capacity(batch.records.len());
        for record in &batch.records {
            match serde_json::from_slice::<Value>(record.value.as_deref().unwrap_or_default()) {
                Ok(window) => windows.push((record.offset, window)),
                Err(error) => self.refused(record.offset, &error),
            }
        }
        let mut client = self.pool.get().await.context("postgres is unavailable")?;
        let mut transaction = client.transaction().await?;
        let statement = transaction.prepare_cached(include_str!("move_sink_offset.sql")).await?;
        let Held { topic_id, source } = held;
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [topic_id, &source.partition, &source.topic, &batch.from, &batch.to];
        let moved = transaction.execute(&statement, &parameters).await?;
        ensure!(moved == 1, "another instance has stored what lies behind offset {}", batch.from);
        self.upsert(&mut transaction, &windows).await?;
        kill_point("aggregates_postgres_before_commit");
        transaction.commit().await?;
        kill_point("aggregates_postgres_after_commit");
        self.stored(windows.len() as u64);
        Ok(())
    }
}

impl Postgres {
    /// All at once; one by one when some are refused, so that the others are stored.
    async fn upsert(
        &self,
        transaction: &mut Transaction<'_>,
        windows: &[(i64, Value)],
    ) -> anyhow::Result<()> {
        let values: Vec<_> = windows.iter().map(|(_, window)| window).collect();
        if try_upsert(transaction, &values).await?.is_ok() {
            return Ok(());
        }
        for (offset, window) in windows {
            if let Err(error) = try_upsert(transaction, &[window]).await? {
                self.refused(*offset, &error);
            }
        }
        Ok(())
    }
}

/// What the rows are refused for, or none; the transaction goes on either way.
async fn try_upsert(
    transaction: &mut Transaction<'_>,
    windows: &[&Value],
) -> Result<Result<(), tokio_postgres::Error>, tokio_postgres::Error> {
    if windows.is_empty() {
        return Ok(Ok(()));
    }
    let inside = transaction.savepoint("windows").await?;
    let statement = inside.prepare_cached(include_str!("upsert_aggregates.sql")).await?;
    match inside.execute(&statement, &[&windows]).await {
        Ok(_rows) => {
            inside.commit().await?;
            Ok(Ok(()))
        }
        Err(refused) if is_about_the_rows(&refused) => {
            inside.rollback().await?;
            Ok(Err(refused))
        }
        Err(error) => Err(error),
    }
}
