//! How long the table `action_aggregates` keeps windows, by their start.
//!
//! One horizon is for what goes and for what comes: a late correction of a window behind it is not
//! stored, since the rows of its other dimensions are gone and what it brought back would pass for
//! the whole. Such a window, and whatever an import tells of longer ago, is in the topic alone.

use std::time::Duration;

use anyhow::Context;
use deadpool_postgres::Pool;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::metrics::AlerterMetrics;

/// A transaction removes so many rows: it is short, and what waits for it waits little.
const ROWS_MAX: i64 = 10_000;
const EVERY: Duration = Duration::from_secs(3_600);

#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// 0 keeps windows for ever.
    pub days: u32,
}

impl Retention {
    /// The earliest start that is kept; None keeps all.
    pub fn horizon(self, now: Timestamp) -> Option<Timestamp> {
        let kept = SignedDuration::from_hours(24 * i64::from(self.days));
        (self.days > 0).then(|| now.checked_sub(kept).unwrap_or(Timestamp::MIN))
    }
}

/// Removes what is behind the horizon, whichever instance is first to look.
pub struct Remover {
    pub pool: Pool,
    pub retention: Retention,
    pub metrics: AlerterMetrics,
}

impl Remover {
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let for_ever = async {
            loop {
                if let Err(error) = self.remove_expired(Timestamp::now()).await {
                    warn!(error = format!("{error:#}"), "old windows stay in the table for now");
                }
                tokio::time::sleep(EVERY).await;
            }
        };
        shutdown.run_until_cancelled(for_ever).await.unwrap_or(Ok(()))
    }

    /// Returns how many rows are gone; a chunk is a transaction of its own, so what an end in the
    /// middle leaves is the next one's.
    pub async fn remove_expired(&self, now: Timestamp) -> anyhow::Result<u64> {
        let Some(horizon) = self.retention.horizon(now) else { return Ok(0) };
        let client = self.pool.get().await.context("postgres is unavailable")?;
        let statement =
            client.prepare_cached(include_str!("delete_expired_aggregates.sql")).await?;
        let mut removed = 0;
        loop {
            let rows = client.execute(&statement, &[&horizon, &ROWS_MAX]).await?;
            self.metrics.aggregates_removed_total.inc_by(rows);
            removed += rows;
            if rows < ROWS_MAX as u64 {
                break;
            }
        }
        if removed > 0 {
            info!(rows = removed, %horizon, "windows removed that AGGREGATE_RETENTION_DAYS no longer keeps");
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_horizon_lies_whole_days_back_and_without_days_there_is_none() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let horizon = |days| Retention { days }.horizon(now).map(|it| it.to_string());
        assert_eq!(horizon(400).as_deref(), Some("2025-10-17T12:00:00Z"));
        assert_eq!(horizon(0), None);
        assert!(horizon(u32::MAX).is_some());
    }
}
