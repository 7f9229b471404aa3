//! The statistics anew from the rows: forgotten in one transaction, then read back as whoever trails does.

use std::sync::Arc;

use anyhow::{bail, ensure};
use common::kafka::TopicPartition;
use deadpool_postgres::Pool;
use tracing::info;

use crate::batch::Source;
use crate::config::InputFormat;
use crate::follow::digest::Digest;
use crate::follow::folder::fold_what_is_due;
use crate::follow::rollups::Rollups;
use crate::follow::{FollowError, Follower, Share, read_back};

/// Forgets everything and reads it back. Processors that run meanwhile notice that their marks have
/// moved, and help. Returns how many sources were read.
pub async fn rebuild(
    pool: &Pool,
    rollups: impl Fn(Arc<Source>) -> Rollups,
) -> anyhow::Result<usize> {
    forget(pool).await?;
    let rows = pool.get().await?.query(include_str!("list_sources.sql"), &[]).await?;
    for row in &rows {
        let source = Source {
            number: row.get(0),
            incarnation: row.get(1),
            partition: TopicPartition { topic: row.get(2), partition: row.get(3) },
            format: InputFormat::default(),
        };
        info!(source = %source.partition, "reading back");
        let source = Arc::new(source);
        catch_up(pool, &source, rollups(source.clone()), row.get(4)).await?;
    }
    Ok(rows.len())
}

async fn forget(pool: &Pool) -> anyhow::Result<()> {
    let mut client = pool.get().await?;
    let lost: i64 = client.query_one(include_str!("count_lost_rows.sql"), &[]).await?.get(0);
    ensure!(lost == 0, "{lost} stored rows are not there any more: their statistics would be lost");
    let transaction = client.transaction().await?;
    transaction.batch_execute(include_str!("forget_statistics.sql")).await?;
    transaction.commit().await?;
    Ok(())
}

async fn catch_up(
    pool: &Pool,
    source: &Arc<Source>,
    mut rollups: Rollups,
    ledger: i64,
) -> anyhow::Result<()> {
    let mut mark = rollups.mark().await?;
    while mark < ledger {
        let to = ledger.min(mark + <Arc<Digest> as Share>::READ_BACK_STEP);
        let read = read_back::read(pool.get().await?, source, mark, to).await;
        let applied = match read {
            Ok(digest) => rollups.apply(&[digest]).await,
            Err(error) => Err(error),
        };
        mark = match applied {
            Ok(mark) => mark,
            Err(FollowError::Moved) => rollups.mark().await?,
            Err(error) => bail!(error),
        };
        fold_what_is_due(pool, u32::MAX).await?;
    }
    Ok(())
}
