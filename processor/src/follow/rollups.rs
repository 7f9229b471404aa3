//! Rollups in Postgres, several batches together: object counts, the users of each day, and the statistics, all in
//! numbers of names and in one transaction.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::failpoint::kill_point;
use deadpool_postgres::{Pool, Transaction};
use jiff::Span;
use jiff::civil::{Date, date};

use super::counters::Counters;
use super::dictionary::Dictionaries;
use super::digest::Digest;
use super::entered::{Block, Entered, UserOfDay};
use super::{FollowError, Follower, Share, object_counts, statistics};
use crate::batch::Source;

/// Rolls up one source.
pub struct Rollups {
    pool: Pool,
    source: Arc<Source>,
    gather: Duration,
    dictionaries: Arc<Dictionaries>,
    /// Redis shows the users of a day as Postgres has them after each rollup.
    counters: Option<Arc<Counters>>,
    entered: Entered,
    marks: Marks,
}

/// How far each part reaches. They move together, but `processor rebuild statistics` sets the statistics back:
/// each takes what lies behind its own mark.
#[derive(Debug, Clone, Copy, Default)]
struct Marks {
    rollups: i64,
    statistics: i64,
}

impl Marks {
    fn least(self) -> i64 {
        self.rollups.min(self.statistics)
    }
}

impl Rollups {
    pub fn new(
        pool: Pool,
        source: Arc<Source>,
        gather: Duration,
        dictionaries: Arc<Dictionaries>,
        counters: Option<Arc<Counters>>,
    ) -> Self {
        let (entered, marks) = Default::default();
        Self { pool, source, gather, dictionaries, counters, entered, marks }
    }
}

impl Follower for Rollups {
    const NAME: &'static str = "rollups";
    type Share = Arc<Digest>;

    fn gather(&self) -> Duration {
        self.gather
    }

    async fn mark(&mut self) -> Result<i64, FollowError> {
        let client = self.pool.get().await?;
        let source = &self.source.number;
        if let Some(counters) = &self.counters {
            // After a crash Redis may not show all of them yet.
            counters.any_day_changed();
        }
        let rollups = client.query_one(include_str!("read_rollup_mark.sql"), &[source]).await?;
        let statistics =
            client.query_one(include_str!("read_statistics_mark.sql"), &[source]).await?;
        self.marks = Marks { rollups: rollups.get(0), statistics: statistics.get(0) };
        self.entered.forget();
        Ok(self.marks.least())
    }

    async fn apply(&mut self, digests: &[Arc<Digest>]) -> Result<i64, FollowError> {
        let (Some(first), Some(last)) = (digests.first(), digests.last()) else {
            return Err(FollowError::Moved);
        };
        let (to, marks) = (last.range().end, self.marks);
        if first.range().start > marks.least() {
            return Err(FollowError::Moved);
        }
        let mut client = self.pool.get().await?;
        // Committed by itself: a number may stay without an event, but not change its owner.
        let events = self.dictionaries.numbered(&mut client, digests).await?;
        kill_point("rollups_after_numbering");
        let since = |mark| &events[events.partition_point(|it| it.offset < mark)..];
        let transaction = client.transaction().await?;
        // What a crash of Postgres forgets of this, it forgets with the marks: it is read back.
        transaction.batch_execute("set local synchronous_commit = off").await?;
        let statement = transaction.prepare_cached(include_str!("move_rollup_marks.sql")).await?;
        let known = [&marks.rollups, &marks.statistics];
        let moved = transaction
            .execute(&statement, &[&self.source.number, known[0], known[1], &to])
            .await?;
        if moved == 0 {
            return Err(FollowError::Moved);
        }
        object_counts::append(&transaction, since(marks.rollups)).await?;
        statistics::append(&transaction, &self.source, since(marks.statistics), to).await?;
        // Last, since other sources wait for who enters the same users.
        let users = self.entered.unknown(last.generation, since(marks.rollups));
        let days = add_users_of_days(&transaction, &users).await?;
        kill_point("rollups_before_commit");
        transaction.commit().await?;
        kill_point("rollups_after_commit");
        self.entered.remember(&users);
        if let Some(counters) = &self.counters {
            counters.days_changed(days);
        }
        self.marks = Marks { rollups: marks.rollups.max(to), statistics: marks.statistics.max(to) };
        Ok(self.marks.least())
    }
}

/// Returns the days that were touched.
async fn add_users_of_days(
    on: &Transaction<'_>,
    users: &[UserOfDay],
) -> Result<BTreeSet<Date>, FollowError> {
    if users.is_empty() {
        return Ok(BTreeSet::new());
    }
    let blocks = Block::all(users);
    let days: Vec<Date> = blocks.iter().map(|it| utc_day(it.day)).collect();
    let numbers: Vec<i32> = blocks.iter().map(|it| it.number).collect();
    let bits: Vec<&[u8]> = blocks.iter().map(|it| &it.bits[..]).collect();
    let statement = on.prepare_cached(include_str!("add_users_of_days.sql")).await?;
    on.execute(&statement, &[&days, &numbers, &bits]).await?;
    Ok(days.into_iter().collect())
}

/// By days since 1970.
pub fn utc_day(day: i32) -> Date {
    date(1970, 1, 1).saturating_add(Span::new().days(day))
}
