//! Folds what sources have appended into the cells.

use anyhow::Context;
use common::stats::{ALL_KINDS, Cell, Counts, Facet, Firsts, Objects, Users, day_of_slot, delta};
use deadpool_postgres::Transaction;

use super::cells::{Cells, add};

/// Readers add unfolded events by themselves, which costs them some 20 ns each.
pub const EVENTS_MAX: i64 = 500_000;

/// Brings the oldest deltas into the cells and takes them away; returns how many. Whoever calls this is
/// the only one.
pub async fn fold(on: &Transaction<'_>) -> anyhow::Result<usize> {
    let rows = on.query(include_str!("read_deltas.sql"), &[&EVENTS_MAX]).await?;
    let mut groups = delta::Groups::new();
    for row in &rows {
        delta::unpack_into(&mut groups, row.get(1)).context("unpack a delta")?;
    }
    let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    drop(rows);
    add_groups(on, groups).await?;
    on.execute(include_str!("delete_deltas.sql"), &[&ids]).await?;
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
