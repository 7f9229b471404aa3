//! Keeps the indexes of ranges summarised: blocks that are not are read whole by every question.

use std::time::Duration;

use deadpool_postgres::Pool;
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::metrics::ProcessorMetrics;

const SUMMARISE_EVERY: Duration = Duration::from_secs(10);

/// Summarises new blocks until told to stop.
pub async fn keep_summaries(
    pool: Pool,
    metrics: ProcessorMetrics,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    while stop.run_until_cancelled(tokio::time::sleep(SUMMARISE_EVERY)).await.is_some() {
        match stop.run_until_cancelled(summarise(&pool)).await {
            Some(Ok(ranges)) => metrics.ranges_summarised_total.inc_by(ranges.unsigned_abs()),
            Some(Err(error)) => warn!("new blocks are not summarised: {error:#}"),
            None => {}
        }
    }
    Ok(())
}

/// Returns how many ranges; none where a table is being vacuumed, or summarised by another process.
async fn summarise(pool: &Pool) -> anyhow::Result<i64> {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    // Autovacuum gives up for who has waited for it as long as `deadlock_timeout`, a second: it shall not.
    transaction.batch_execute("set local lock_timeout = '100ms'").await?;
    let statement = transaction.prepare_cached(include_str!("summarize_ranges.sql")).await?;
    let ranges = match transaction.query_one(&statement, &[]).await {
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => 0,
        row => row?.get(0),
    };
    transaction.commit().await?;
    Ok(ranges)
}
