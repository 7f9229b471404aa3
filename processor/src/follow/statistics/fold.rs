//! Folds what sources have appended into the cells: one folder at a time, each fold one transaction that
//! takes the deltas away with it.

use std::time::Duration;

use anyhow::Context;
use common::failpoint::kill_point;
use common::stats::{ALL_KINDS, Cell, Counts, Facet, Firsts, Objects, Users, day_of_slot, delta};
use deadpool_postgres::{Client, Pool, Transaction};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::cells::{Cells, add};

/// Readers add unfolded events by themselves, which costs them some 20 ns each.
const EVENTS_MAX: i64 = 500_000;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Folds what is much, or has waited for so many seconds, until told to stop.
pub async fn keep_folded(
    pool: Pool,
    seconds_max: u32,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        let folded = stop.run_until_cancelled(fold_what_is_due(&pool, seconds_max)).await;
        if let Some(Err(error)) = folded {
            warn!("the statistics are not folded: {error:#}");
        }
    }
    Ok(())
}

pub async fn fold_what_is_due(pool: &Pool, seconds_max: u32) -> anyhow::Result<()> {
    let mut client = pool.get().await?;
    loop {
        let due = client.prepare_cached(include_str!("is_fold_due.sql")).await?;
        if !client.query_one(&due, &[&EVENTS_MAX, &f64::from(seconds_max)]).await?.get::<_, bool>(0)
        {
            return Ok(());
        }
        if fold(&mut client).await? == 0 {
            return Ok(());
        }
    }
}

/// Folds the oldest deltas; returns how many. None when there are none, or somebody else folds.
pub async fn fold(client: &mut Client) -> anyhow::Result<usize> {
    let transaction = client.transaction().await?;
    // It is undone or done as a whole.
    transaction.batch_execute("set local synchronous_commit = off").await?;
    let lock = transaction.query_one(include_str!("lock_fold.sql"), &[]).await?;
    if !lock.get::<_, bool>(0) {
        return Ok(0);
    }
    let rows = transaction.query(include_str!("read_deltas.sql"), &[&EVENTS_MAX]).await?;
    let mut groups = delta::Groups::new();
    for row in &rows {
        delta::unpack_into(&mut groups, row.get(1)).context("unpack a delta")?;
    }
    let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    drop(rows);
    add_groups(&transaction, groups).await?;
    transaction.execute(include_str!("delete_deltas.sql"), &[&ids]).await?;
    kill_point("fold_before_commit");
    transaction.commit().await?;
    kill_point("fold_after_commit");
    debug!(deltas = ids.len(), "statistics are folded");
    Ok(ids.len())
}

async fn add_groups(on: &Transaction<'_>, groups: delta::Groups) -> anyhow::Result<()> {
    let mut minutes = Cells::<Counts>::new();
    let mut slot_users = Cells::<Users>::new();
    let mut firsts = Cells::<Firsts>::new();
    let mut day_counts = Cells::<Counts>::new();
    let mut day_users = Cells::<Users>::new();
    let mut day_objects = Cells::<Objects>::new();
    for (&(slot, kind), facts) in &groups {
        let day = day_of_slot(slot);
        let users = Users::of(facts);
        for user in &users.0 {
            firsts.entry((Firsts::block(user), ALL_KINDS)).or_default().note(user, slot);
        }
        for kind in [kind, ALL_KINDS] {
            minutes.entry((slot, kind)).or_default().absorb(Counts::by_minute(facts));
            day_counts.entry((day, kind)).or_default().absorb(Counts::one(facts.0.len()));
            slot_users.entry((slot, kind)).or_default().0 |= &users.0;
            day_users.entry((day, kind)).or_default().0 |= &users.0;
        }
        let objects = Objects::of([facts]);
        if !objects.is_empty() {
            day_objects.entry((day, kind)).or_default().absorb(objects);
        }
    }
    add(on, Facet::SlotFacts, groups).await?;
    add(on, Facet::SlotMinutes, minutes).await?;
    add(on, Facet::SlotUsers, slot_users).await?;
    add(on, Facet::DayCounts, day_counts).await?;
    add(on, Facet::DayUsers, day_users).await?;
    add(on, Facet::DayObjects, day_objects).await?;
    add(on, Facet::FirstSlots, firsts).await
}
