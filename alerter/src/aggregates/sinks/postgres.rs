//! The table `action_aggregates`: rows and the offset they came from in one transaction.

use anyhow::{Context, ensure};
use common::config::KafkaConfig;
use common::failpoint::kill_point;
use common::kafka::{RecordBatch, TopicId, TopicPartition, topic_id};
use deadpool_postgres::{Pool, Transaction};
use jiff::Timestamp;
use serde_json::Value;
use tracing::error;

use crate::aggregates::sinks::retention::Retention;
use crate::delivery::is_about_the_rows;
use crate::delivery::subscriber::Place;
use crate::metrics::AlerterMetrics;

pub struct Postgres {
    pub kafka: KafkaConfig,
    pub pool: Pool,
    pub retention: Retention,
    pub metrics: AlerterMetrics,
}

/// A partition of a topic that another of the same name cannot be taken for.
pub struct Held {
    topic_id: TopicId,
    source: TopicPartition,
}

impl Postgres {
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
        let expired = self.upsert(&mut transaction, &windows).await?;
        kill_point("aggregates_postgres_before_commit");
        transaction.commit().await?;
        kill_point("aggregates_postgres_after_commit");
        self.metrics.aggregates_expired_total.inc_by(expired);
        self.stored(windows.len() as u64 - expired);
        Ok(())
    }
}

impl Postgres {
    /// All at once; one by one when some are refused, so that the others are stored. Returns how
    /// many were left out because the table no longer keeps their like.
    async fn upsert(
        &self,
        transaction: &mut Transaction<'_>,
        windows: &[(i64, Value)],
    ) -> anyhow::Result<u64> {
        let horizon = self.retention.horizon(Timestamp::now());
        let values: Vec<_> = windows.iter().map(|(_, window)| window).collect();
        if let Ok(expired) = try_upsert(transaction, &values, horizon).await? {
            return Ok(expired);
        }
        let mut expired = 0;
        for (offset, window) in windows {
            match try_upsert(transaction, &[window], horizon).await? {
                Ok(one) => expired += one,
                Err(error) => self.refused(*offset, &error),
            }
        }
        Ok(expired)
    }
}

/// How many are left out, or what the rows are refused for; the transaction goes on either way.
async fn try_upsert(
    transaction: &mut Transaction<'_>,
    windows: &[&Value],
    horizon: Option<Timestamp>,
) -> Result<Result<u64, tokio_postgres::Error>, tokio_postgres::Error> {
    if windows.is_empty() {
        return Ok(Ok(0));
    }
    let inside = transaction.savepoint("windows").await?;
    let statement = inside.prepare_cached(include_str!("upsert_aggregates.sql")).await?;
    match inside.query_one(&statement, &[&windows, &horizon]).await {
        Ok(row) => {
            inside.commit().await?;
            Ok(Ok(row.get::<_, i64>(0) as u64))
        }
        Err(refused) if is_about_the_rows(&refused) => {
            inside.rollback().await?;
            Ok(Err(refused))
        }
        Err(error) => Err(error),
    }
}
