//! Statistics in Postgres: who did what to what and when, in numbers. A source only appends what it
//! adds; one folder for all sources brings it into the cells that are read.

mod cells;
mod dictionary;
mod digest;
mod fold;
mod rebuild;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::failpoint::kill_point;
use common::stats::{Slot, day_of_slot, delta};
use deadpool_postgres::{Object, Pool, Transaction};
use jiff::Span;
use jiff::civil::{Date, date};

pub use self::dictionary::Dictionaries;
pub use self::digest::Digest;
use self::fold::fold_what_is_due;
pub use self::fold::{fold, keep_folded};
pub use self::rebuild::rebuild;
use super::{FollowError, Follower, Share};
use crate::batch::Source;

/// Keeps the statistics of one source.
pub struct Statistics {
    pub pool: Pool,
    pub source: Arc<Source>,
    pub gather: Duration,
    pub dictionaries: Arc<Dictionaries>,
}

impl Follower for Statistics {
    const NAME: &'static str = "statistics";
    type Share = Arc<Digest>;

    fn gather(&self) -> Duration {
        self.gather
    }

    async fn mark(&mut self) -> Result<i64, FollowError> {
        let client = self.pool.get().await?;
        let sql = include_str!("read_statistics_mark.sql");
        Ok(client.query_one(sql, &[&self.source.number]).await?.get(0))
    }

    async fn apply(&mut self, digests: &[Arc<Digest>]) -> Result<i64, FollowError> {
        let (Some(first), Some(last)) = (digests.first(), digests.last()) else {
            return Err(FollowError::Moved);
        };
        let (from, to) = (first.range().start, last.range().end);
        let mut client = self.pool.get().await?;
        // Committed by itself: a number may stay without an event, but not change its owner.
        let groups = self.numbered(&client, digests).await?;
        let transaction = client.transaction().await?;
        // What a crash of Postgres forgets of this, it forgets with the mark: it is read back.
        transaction.batch_execute("set local synchronous_commit = off").await?;
        let statement =
            transaction.prepare_cached(include_str!("move_statistics_mark.sql")).await?;
        let moved = transaction.execute(&statement, &[&self.source.number, &from, &to]).await?;
        if moved == 0 {
            return Err(FollowError::Moved);
        }
        self.append(&transaction, &groups, to).await?;
        kill_point("statistics_before_commit");
        transaction.commit().await?;
        kill_point("statistics_after_commit");
        Ok(to)
    }
}

impl Statistics {
    async fn numbered(
        &self,
        client: &Object,
        digests: &[Arc<Digest>],
    ) -> Result<delta::Groups, FollowError> {
        let Dictionaries { users, objects, kinds, .. } = &*self.dictionaries;
        let users = users.numbers(client, digests.iter().flat_map(|it| it.users())).await?;
        let objects = objects.numbers(client, digests.iter().flat_map(|it| it.objects())).await?;
        let kinds = kinds.numbers(client, digests.iter().flat_map(|it| it.kinds())).await?;
        let events = digests.iter().flat_map(|digest| {
            digest.named().map(|it| {
                let object = it.object.map_or(0, |name| objects[name]);
                (it.at_us, kinds[it.kind].cast_signed(), users[it.user], object)
            })
        });
        Ok(delta::group(events))
    }

    async fn append(
        &self,
        on: &Transaction<'_>,
        groups: &delta::Groups,
        mark: i64,
    ) -> Result<(), FollowError> {
        let slots = || groups.keys().map(|(slot, _)| *slot);
        let (Some(slot_min), Some(slot_max)) = (slots().min(), slots().max()) else {
            return Ok(());
        };
        let events: usize = groups.values().map(|it| it.0.len()).sum();
        let events = i32::try_from(events).expect("far fewer events are applied at a time");
        let facts = delta::pack(groups);
        let statement = on.prepare_cached(include_str!("append_delta.sql")).await?;
        on.execute(&statement, &[&events, &slot_min, &slot_max, &facts]).await?;
        let days: BTreeSet<Date> = slots().map(utc_day).collect();
        let days: Vec<Date> = days.into_iter().collect();
        let statement = on.prepare_cached(include_str!("touch_days.sql")).await?;
        on.execute(&statement, &[&self.source.number, &days, &mark]).await?;
        Ok(())
    }
}

fn utc_day(slot: Slot) -> Date {
    date(1970, 1, 1).saturating_add(Span::new().days(day_of_slot(slot)))
}
