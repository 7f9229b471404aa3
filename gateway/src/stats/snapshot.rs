//! The statistics as one snapshot of Postgres has them: cells, and the deltas that are not folded yet.

use std::ops::Range;
use std::pin::pin;
use std::time::Duration;

use common::postgres;
use common::stats::{BrokenCell, Facet, Slot, delta};
use deadpool_postgres::{Client, Transaction};
use futures_util::TryStreamExt;
use jiff::Timestamp;
use tokio_postgres::types::ToSql;

use super::StatsError;
use super::params::Filter;

pub struct Snapshot<'a> {
    on: Transaction<'a>,
    /// Everything that was judged by then is in it.
    pub as_of: Timestamp,
}

/// What actions are told apart by, but for users and objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    pub number: i32,
    pub event_type: String,
    pub source: String,
}

/// An object and a number that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    pub object_type: String,
    pub object_id: String,
    pub count: u64,
}

impl<'a> Snapshot<'a> {
    /// Nothing that is read in it may take longer than `patience`, also when nobody waits any more.
    pub async fn open(client: &'a mut Client, patience: Duration) -> Result<Self, StatsError> {
        let on = postgres::snapshot(client).await?;
        // Compiling these short queries takes longer than running them.
        let ms = patience.as_millis().max(1);
        on.batch_execute(&format!("set local jit = off; set local statement_timeout = {ms}"))
            .await?;
        let statement = on.prepare_cached(include_str!("read_as_of.sql")).await?;
        let as_of = on.query_one(&statement, &[]).await?.get(0);
        Ok(Self { on, as_of })
    }

    /// The kinds of actions that a filter leaves.
    pub async fn kinds(&self, filter: &Filter) -> Result<Vec<Kind>, StatsError> {
        let Filter { event_type, source, object_type, .. } = filter;
        let statement = self.on.prepare_cached(include_str!("read_kinds.sql")).await?;
        let rows = self.on.query(&statement, &[event_type, source, object_type]).await?;
        let kind = |row: &tokio_postgres::Row| Kind {
            number: row.get(0),
            event_type: row.get(1),
            source: row.get(2),
        };
        Ok(rows.iter().map(kind).collect())
    }

    pub async fn user(&self, id: &str) -> Result<Option<u32>, StatsError> {
        let row = self.on.query_opt("select no from users where id = $1", &[&id]).await?;
        Ok(row.map(|it| it.get::<_, i32>(0).cast_unsigned()))
    }

    pub async fn object(&self, object_type: &str, id: &str) -> Result<Option<u32>, StatsError> {
        let sql = "select no from objects where object_type = $1 and object_id = $2";
        let row = self.on.query_opt(sql, &[&object_type, &id]).await?;
        Ok(row.map(|it| it.get::<_, i32>(0).cast_unsigned()))
    }

    /// Calls with place, kind and body of every cell of these kinds in these ranges of slots or days.
    pub async fn cells(
        &self,
        facet: Facet,
        ranges: &[Range<i32>],
        kinds: &[i32],
        mut each: impl FnMut(i32, i32, &[u8]) -> Result<(), BrokenCell>,
    ) -> Result<(), StatsError> {
        if ranges.is_empty() || kinds.is_empty() {
            return Ok(());
        }
        let (starts, ends): (Vec<i32>, Vec<i32>) =
            ranges.iter().map(|it| (it.start, it.end)).unzip();
        let statement = self.on.prepare_cached(include_str!("read_cells.sql")).await?;
        let facet = facet.number();
        let parameters: [&(dyn ToSql + Sync); 4] = [&facet, &starts, &ends, &kinds];
        let mut rows = pin!(self.on.query_raw(&statement, parameters).await?);
        while let Some(row) = rows.try_next().await? {
            each(row.get(0), row.get(1), row.get(2))?;
        }
        Ok(())
    }

    /// Calls with slot, kind and packed facts of what is not folded yet.
    pub async fn deltas(
        &self,
        slots: Range<Slot>,
        mut each: impl FnMut(Slot, i32, &[u8]) -> Result<(), BrokenCell>,
    ) -> Result<(), StatsError> {
        let statement = self.on.prepare_cached(include_str!("read_deltas.sql")).await?;
        let parameters: [&(dyn ToSql + Sync); 2] = [&slots.start, &slots.end];
        let mut rows = pin!(self.on.query_raw(&statement, parameters).await?);
        while let Some(row) = rows.try_next().await? {
            delta::each(row.get(0), |slot, kind, facts| {
                if slots.contains(&slot) { each(slot, kind, facts) } else { Ok(()) }
            })?;
        }
        Ok(())
    }

    /// The facts of these kinds in these slots, folded or not.
    pub async fn facts(
        &self,
        ranges: &[Range<Slot>],
        kinds: &[i32],
        mut each: impl FnMut(Slot, i32, &[u8]) -> Result<(), BrokenCell>,
    ) -> Result<(), StatsError> {
        self.cells(Facet::SlotFacts, ranges, kinds, &mut each).await?;
        let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else { return Ok(()) };
        self.deltas(first.start..last.end, |slot, kind, facts| {
            let is_wanted = ranges.iter().any(|it| it.contains(&slot)) && kinds.contains(&kind);
            if is_wanted { each(slot, kind, facts) } else { Ok(()) }
        })
        .await
    }

    /// The first of numbered objects by count, then by name.
    pub async fn top(
        &self,
        numbers: &[i32],
        counts: &[i64],
        limit: usize,
    ) -> Result<Vec<Counted>, StatsError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let statement = self.on.prepare_cached(include_str!("name_top_objects.sql")).await?;
        let rows = self.on.query(&statement, &[&numbers, &counts, &limit]).await?;
        let counted = |row: &tokio_postgres::Row| Counted {
            object_type: row.get(0),
            object_id: row.get(1),
            count: row.get::<_, i64>(2).cast_unsigned(),
        };
        Ok(rows.iter().map(counted).collect())
    }

    /// The counters of one object: types and counts.
    pub async fn counters(
        &self,
        object_type: &str,
        id: &str,
    ) -> Result<Vec<(String, i64)>, StatsError> {
        let statement = self.on.prepare_cached(include_str!("read_counters.sql")).await?;
        let rows = self.on.query(&statement, &[&object_type, &id]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}
