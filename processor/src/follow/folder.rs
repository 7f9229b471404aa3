//! Folds what sources only append into what is read: one folder at a time, each fold one transaction that
//! takes the deltas away with it.

use std::time::{Duration, Instant};

use common::failpoint::kill_point;
use deadpool_postgres::{Client, Pool};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{object_counts, statistics};
use crate::reminder::Reminder;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is appended first and folded later.
#[derive(Debug, Clone, Copy)]
pub enum Deltas {
    ObjectCounts,
    Statistics,
}

impl Deltas {
    pub const ALL: [Self; 2] = [Self::ObjectCounts, Self::Statistics];

    async fn are_due(self, client: &Client, seconds_max: u32) -> anyhow::Result<bool> {
        let (due, many) = match self {
            Self::ObjectCounts => {
                (include_str!("object_counts/is_due.sql"), object_counts::PAIRS_MAX)
            }
            Self::Statistics => (include_str!("statistics/is_due.sql"), statistics::EVENTS_MAX),
        };
        let due = client.prepare_cached(due).await?;
        Ok(client.query_one(&due, &[&many, &f64::from(seconds_max)]).await?.get(0))
    }

    /// Folds the oldest; returns how many. None when there are none, or somebody else folds.
    pub async fn fold(self, client: &mut Client) -> anyhow::Result<usize> {
        let transaction = client.transaction().await?;
        // It is undone or done as a whole.
        transaction.batch_execute("set local synchronous_commit = off").await?;
        let lock = transaction.query_one(include_str!("lock_fold.sql"), &[]).await?;
        if !lock.get::<_, bool>(0) {
            return Ok(0);
        }
        let folded = match self {
            Self::ObjectCounts => object_counts::fold(&transaction).await?,
            Self::Statistics => statistics::fold(&transaction).await?,
        };
        kill_point("fold_before_commit");
        transaction.commit().await?;
        kill_point("fold_after_commit");
        debug!(deltas = folded, "{self:?} are folded");
        Ok(folded)
    }
}

/// Folds what is much, or has waited for so many seconds, until told to stop.
pub async fn keep_folded(
    pool: Pool,
    seconds_max: u32,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut reminder = Reminder::default();
    while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        let folded = stop.run_until_cancelled(fold_what_is_due(&pool, seconds_max)).await;
        if let Some(Err(error)) = folded
            && reminder.is_due(Instant::now())
        {
            warn!("what was added is not folded: {error:#}");
        }
    }
    Ok(())
}

pub async fn fold_what_is_due(pool: &Pool, seconds_max: u32) -> anyhow::Result<()> {
    let mut client = pool.get().await?;
    for deltas in Deltas::ALL {
        while deltas.are_due(&client, seconds_max).await? && deltas.fold(&mut client).await? > 0 {}
    }
    Ok(())
}
