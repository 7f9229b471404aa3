//! Rollups in Postgres, several batches together: object counts and the users of each day.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::failpoint::kill_point;
use deadpool_postgres::{Pool, Transaction};
use hashbrown::HashMap;
use jiff::civil::Date;

use super::counters::Counters;
use super::entered::Entered;
use super::sums::{Counted, Sums};
use super::{FollowError, Follower, Share};
use crate::batch::Source;

/// Rolls up one source.
pub struct Rollups {
    pub pool: Pool,
    pub source: Arc<Source>,
    pub gather: Duration,
    /// Redis shows the users of a day as Postgres has them after each rollup.
    pub counters: Arc<Counters>,
    pub entered: Entered,
}

impl Follower for Rollups {
    const NAME: &'static str = "rollups";
    type Share = Arc<Sums>;

    fn gather(&self) -> Duration {
        self.gather
    }

    async fn mark(&mut self) -> Result<i64, FollowError> {
        let client = self.pool.get().await?;
        let days =
            client.query(include_str!("read_source_days.sql"), &[&self.source.number]).await?;
        self.counters.days_changed(days.iter().map(|row| row.get(0)));
        let sql = include_str!("read_rollup_mark.sql");
        Ok(client.query_one(sql, &[&self.source.number]).await?.get(0))
    }

    async fn apply(&mut self, sums: &[Arc<Sums>]) -> Result<i64, FollowError> {
        let (Some(first), Some(last)) = (sums.first(), sums.last()) else {
            return Err(FollowError::Moved);
        };
        let (from, to) = (first.range().start, last.range().end);
        let mut client = self.pool.get().await?;
        let transaction = client.transaction().await?;
        let sql = include_str!("move_rollup_mark.sql");
        let moved = transaction.execute(sql, &[&self.source.number, &from, &to]).await?;
        if moved == 0 {
            return Err(FollowError::Moved);
        }
        self.add_object_counts(&transaction, sums).await?;
        let users = self.entered.unknown(sums);
        let days = self.add_daily_users(&transaction, &users).await?;
        kill_point("rollups_before_commit");
        transaction.commit().await?;
        kill_point("rollups_after_commit");
        self.entered.remember(&users);
        self.counters.days_changed(days);
        Ok(to)
    }
}

impl Rollups {
    async fn add_object_counts(
        &self,
        on: &Transaction<'_>,
        sums: &[Arc<Sums>],
    ) -> Result<(), FollowError> {
        let mut total: HashMap<&Counted, i64> = HashMap::new();
        for (counted, count) in sums.iter().flat_map(|it| &it.steps).flat_map(|it| &it.counts) {
            *total.entry(counted).or_default() += count;
        }
        if total.is_empty() {
            return Ok(());
        }
        // In the order of the primary key: neighbours share a page.
        let mut total: Vec<_> = total.into_iter().collect();
        total.sort_unstable();
        let (counted, counts): (Vec<&Counted>, Vec<i64>) = total.into_iter().unzip();
        let named = |at: usize| counted.iter().map(|it| it.names()[at]).collect::<Vec<&str>>();
        let (types, ids, actions) = (named(0), named(1), named(2));
        let statement = on.prepare_cached(include_str!("add_object_counts.sql")).await?;
        on.execute(&statement, &[&self.source.number, &types, &ids, &actions, &counts]).await?;
        Ok(())
    }

    /// Returns the days that were touched.
    async fn add_daily_users(
        &self,
        on: &Transaction<'_>,
        users: &[(Date, &str)],
    ) -> Result<BTreeSet<Date>, FollowError> {
        if users.is_empty() {
            return Ok(BTreeSet::new());
        }
        let (days, users): (Vec<Date>, Vec<&str>) = users.iter().copied().unzip();
        let statement = on.prepare_cached(include_str!("add_daily_users.sql")).await?;
        on.execute(&statement, &[&self.source.number, &days, &users]).await?;
        Ok(days.into_iter().collect())
    }
}
