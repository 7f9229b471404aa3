//! Rollups in Postgres, several batches together: object counts and the users of each day.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use common::failpoint::kill_point;
use deadpool_postgres::{Pool, Transaction};
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::counters::Counters;
use super::{FollowError, Follower};
use crate::batch::{Judged, Source};

/// Rolls up one source.
pub struct Rollups {
    pub pool: Pool,
    pub source: Arc<Source>,
    pub gather: Duration,
    /// Redis shows the users of a day as Postgres has them after each rollup.
    pub counters: Arc<Counters>,
}

impl Follower for Rollups {
    const NAME: &'static str = "rollups";

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

    async fn apply(&mut self, judged: &[Arc<Judged>]) -> Result<i64, FollowError> {
        let (Some(first), Some(last)) = (judged.first(), judged.last()) else {
            return Err(FollowError::Moved);
        };
        let mut client = self.pool.get().await?;
        let transaction = client.transaction().await?;
        let sql = include_str!("move_rollup_mark.sql");
        let moved = transaction.execute(sql, &[&self.source.number, &first.from, &last.to]).await?;
        if moved == 0 {
            return Err(FollowError::Moved);
        }
        self.add_object_counts(&transaction, judged).await?;
        let days = self.add_daily_users(&transaction, judged).await?;
        kill_point("rollups_before_commit");
        transaction.commit().await?;
        kill_point("rollups_after_commit");
        self.counters.days_changed(days);
        Ok(last.to)
    }
}

impl Rollups {
    async fn add_object_counts(
        &self,
        on: &Transaction<'_>,
        judged: &[Arc<Judged>],
    ) -> Result<(), FollowError> {
        let mut counts: BTreeMap<(&str, &str, &str), i64> = BTreeMap::new();
        for event in events(judged) {
            if let Some(object) = &event.object {
                let key =
                    (object.object_type.as_str(), object.id.as_str(), event.event_type.as_str());
                *counts.entry(key).or_default() += 1;
            }
        }
        if counts.is_empty() {
            return Ok(());
        }
        let (keys, counts): (Vec<_>, Vec<i64>) = counts.into_iter().unzip();
        let types: Vec<&str> = keys.iter().map(|it| it.0).collect();
        let ids: Vec<&str> = keys.iter().map(|it| it.1).collect();
        let actions: Vec<&str> = keys.iter().map(|it| it.2).collect();
        let statement = on.prepare_cached(include_str!("add_object_counts.sql")).await?;
        on.execute(&statement, &[&self.source.number, &types, &ids, &actions, &counts]).await?;
        Ok(())
    }

    /// Returns the days that were touched.
    async fn add_daily_users(
        &self,
        on: &Transaction<'_>,
        judged: &[Arc<Judged>],
    ) -> Result<Vec<Date>, FollowError> {
        // Sorted: two sources that enter the same users wait for each other in the same order.
        let users: BTreeSet<(Date, &str)> =
            events(judged).map(|it| (utc_day(it.occurred_at), it.user_id.as_str())).collect();
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let (days, users): (Vec<Date>, Vec<&str>) = users.into_iter().unzip();
        let statement = on.prepare_cached(include_str!("add_daily_users.sql")).await?;
        on.execute(&statement, &[&self.source.number, &days, &users]).await?;
        Ok(days.into_iter().collect::<BTreeSet<_>>().into_iter().collect())
    }
}

fn events(judged: &[Arc<Judged>]) -> impl Iterator<Item = &common::event::Event> {
    judged.iter().flat_map(|batch| &batch.stored).map(|it| &it.event)
}

fn utc_day(at: jiff::Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}
