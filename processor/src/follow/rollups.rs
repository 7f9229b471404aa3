//! Rollups in Postgres, several batches together: object counts and the users of each day.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use common::failpoint::kill_point;
use deadpool_postgres::{Pool, Transaction};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use tokio::sync::Semaphore;

use super::counters::Counters;
use super::read_back::{self, Stored};
use super::{FollowError, Follower, Memory, Share};
use crate::batch::{Deed, Judged, Source};

/// Rolls up one source.
pub struct Rollups {
    pub pool: Pool,
    pub source: Arc<Source>,
    pub gather: Duration,
    /// Redis shows the users of a day as Postgres has them after each rollup.
    pub counters: Arc<Counters>,
}

/// Object type, object id, event type.
type Counted = (Box<str>, Box<str>, Box<str>);

/// The sums of a range. Sorted: two sources that enter the same users wait for each other in the
/// same order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sums {
    range: Range<i64>,
    events: usize,
    counts: BTreeMap<Counted, i64>,
    users: BTreeSet<(Date, Box<str>)>,
}

impl Sums {
    fn add(&mut self, deed: &Deed<'_>) {
        self.events += 1;
        if let Some((object_type, id)) = deed.object {
            *self
                .counts
                .entry((object_type.into(), id.into(), deed.event_type.into()))
                .or_default() += 1;
        }
        self.users.insert((utc_day(deed.occurred_at), deed.user_id.into()));
    }
}

impl Share for Sums {
    const READ_BACK_STEP: i64 = 50_000;

    fn of(judged: &Arc<Judged>) -> Self {
        let mut sums = Self { range: judged.from..judged.to, ..Self::default() };
        judged.deeds().for_each(|deed| sums.add(&deed));
        sums
    }

    async fn read(on: &Transaction<'_>, of: &Stored) -> Result<Self, tokio_postgres::Error> {
        let mut sums = Self { range: of.range.clone(), ..Self::default() };
        read_back::deeds(on, of, |deed| sums.add(deed)).await?;
        Ok(sums)
    }

    fn range(&self) -> Range<i64> {
        self.range.clone()
    }

    fn since(self, _offset: i64) -> Option<Self> {
        None
    }

    fn events(&self) -> usize {
        self.events
    }

    fn size(&self) -> usize {
        let counts =
            self.counts.keys().map(|(it, id, event)| 96 + it.len() + id.len() + event.len());
        let users = self.users.iter().map(|(_, user)| 48 + user.len());
        counts.sum::<usize>() + users.sum::<usize>()
    }

    fn room(memory: &Memory) -> &Arc<Semaphore> {
        &memory.sums
    }
}

impl Follower for Rollups {
    const NAME: &'static str = "rollups";
    type Share = Sums;

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

    async fn apply(&mut self, sums: &[Sums]) -> Result<i64, FollowError> {
        let (Some(first), Some(last)) = (sums.first(), sums.last()) else {
            return Err(FollowError::Moved);
        };
        let (from, to) = (first.range.start, last.range.end);
        let mut client = self.pool.get().await?;
        let transaction = client.transaction().await?;
        let sql = include_str!("move_rollup_mark.sql");
        let moved = transaction.execute(sql, &[&self.source.number, &from, &to]).await?;
        if moved == 0 {
            return Err(FollowError::Moved);
        }
        self.add_object_counts(&transaction, sums).await?;
        let days = self.add_daily_users(&transaction, sums).await?;
        kill_point("rollups_before_commit");
        transaction.commit().await?;
        kill_point("rollups_after_commit");
        self.counters.days_changed(days);
        Ok(to)
    }
}

impl Rollups {
    async fn add_object_counts(
        &self,
        on: &Transaction<'_>,
        sums: &[Sums],
    ) -> Result<(), FollowError> {
        let mut total: BTreeMap<&Counted, i64> = BTreeMap::new();
        for (counted, count) in sums.iter().flat_map(|it| &it.counts) {
            *total.entry(counted).or_default() += count;
        }
        if total.is_empty() {
            return Ok(());
        }
        let (keys, counts): (Vec<_>, Vec<i64>) = total.into_iter().unzip();
        let types: Vec<&str> = keys.iter().map(|it| &*it.0).collect();
        let ids: Vec<&str> = keys.iter().map(|it| &*it.1).collect();
        let actions: Vec<&str> = keys.iter().map(|it| &*it.2).collect();
        let statement = on.prepare_cached(include_str!("add_object_counts.sql")).await?;
        on.execute(&statement, &[&self.source.number, &types, &ids, &actions, &counts]).await?;
        Ok(())
    }

    /// Returns the days that were touched.
    async fn add_daily_users(
        &self,
        on: &Transaction<'_>,
        sums: &[Sums],
    ) -> Result<BTreeSet<Date>, FollowError> {
        let users: BTreeSet<(Date, &str)> =
            sums.iter().flat_map(|it| &it.users).map(|(day, user)| (*day, &**user)).collect();
        if users.is_empty() {
            return Ok(BTreeSet::new());
        }
        let (days, users): (Vec<Date>, Vec<&str>) = users.into_iter().unzip();
        let statement = on.prepare_cached(include_str!("add_daily_users.sql")).await?;
        on.execute(&statement, &[&self.source.number, &days, &users]).await?;
        Ok(days.into_iter().collect())
    }
}

fn utc_day(at: jiff::Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}
