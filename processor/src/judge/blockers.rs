//! Ends sessions of ours that hold locks for ever: a process stopped inside a transaction survives
//! every timeout of the server (tried).

use std::time::Duration;

use common::postgres::application_name;
use deadpool_postgres::Pool;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::metrics::ProcessorMetrics;

const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Looks every two seconds for sessions of ours that waited more than five for a lock, and ends
/// those at the root of their waiting.
pub async fn watch_blockers(
    pool: Pool,
    metrics: ProcessorMetrics,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    while shutdown.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        match terminate(&pool).await {
            Ok(0) => {}
            Ok(ended) => {
                warn!(ended, "ended sessions of ours whose locks others waited for");
                metrics.blockers_terminated_total.inc_by(ended);
            }
            // While Postgres is away nobody waits for a lock.
            Err(error) => debug!("could not look for blockers: {error:#}"),
        }
    }
    Ok(())
}

async fn terminate(pool: &Pool) -> anyhow::Result<u64> {
    let client = pool.get().await?;
    let statement = client.prepare_cached(include_str!("terminate_blockers.sql")).await?;
    let rows = client.query(&statement, &[&application_name("processor")]).await?;
    Ok(rows.len() as u64)
}
