//! Writes the Redis counters anew from one snapshot of the rollups, while ingestion goes on.

use std::collections::BTreeSet;

use anyhow::Context;
use common::keys;
use deadpool_postgres::Transaction;
use fred::prelude::{Client, HashesInterface, KeysInterface, SortedSetsInterface};
use fred::types::scripts::Script;
use futures_util::TryStreamExt;
use jiff::civil::Date;
use tokio_postgres::IsolationLevel;
use tracing::info;

use super::counters::Counters;

/// Rows written to Redis in one pipeline.
const CHUNK: usize = 1_000;

const SUPERSEDED: &str = "another rebuild of the counters has begun";

/// Rebuilds unless the counters are live and of this generation; `anyway` rebuilds all the same.
/// One rebuilder at a time: whoever comes second returns at once. Returns whether it was rebuilt.
///
/// Readers see a key's old or new value. Scripts of the old epoch answer stale from the first step
/// on; marks and the new epoch become live in the last one, and followers catch up from there.
pub async fn rebuild(counters: &Counters, anyway: bool) -> anyhow::Result<bool> {
    let mut client = counters.pool.get().await?;
    let snapshot =
        client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start().await?;
    let lock = snapshot.query_one(include_str!("lock_rebuild.sql"), &[]).await?;
    if !lock.get::<_, bool>(0) {
        return Ok(false);
    }
    let generation = counters.generation.ask(&*snapshot).await?;
    let standing = counters.standing(0).await?;
    let is_current = standing.is_some_and(|it| it.live && it.generation() == Some(generation));
    if is_current && !anyway {
        return Ok(false);
    }
    counters.metrics.counters_rebuilding.set(1);
    let done = Rebuild::begin(counters, &snapshot, generation).await?.run(&snapshot).await;
    counters.metrics.counters_rebuilding.set(0);
    done?;
    counters.metrics.counter_rebuilds_total.inc();
    snapshot.commit().await?;
    // What was shown of a day since the snapshot was written over.
    counters.any_day_changed();
    Ok(true)
}

/// One rebuild under its new epoch.
struct Rebuild<'a> {
    redis: &'a Client,
    epoch: String,
    /// Sorted sets written beside the live ones, to be renamed over them.
    tops: BTreeSet<String>,
    days: BTreeSet<String>,
}

impl<'a> Rebuild<'a> {
    async fn begin(
        counters: &'a Counters,
        snapshot: &Transaction<'_>,
        generation: i64,
    ) -> anyhow::Result<Self> {
        let drawn = snapshot.query_one("select nextval('counter_epoch')", &[]).await?;
        let epoch = format!("{generation}-{}", drawn.get::<_, i64>(0));
        info!(epoch, "rebuilding the counters in redis");
        let building = vec![("epoch", epoch.clone()), ("state", "building".to_owned())];
        counters
            .redis
            .hset::<(), _, _>(keys::COUNTERS, building)
            .await
            .context("begin the epoch")?;
        let redis = &counters.redis;
        Ok(Self { redis, epoch, tops: BTreeSet::new(), days: BTreeSet::new() })
    }

    async fn run(mut self, snapshot: &Transaction<'_>) -> anyhow::Result<()> {
        // A rebuild that died left its sorted sets behind; a member in them may be gone by now.
        self.delete_leftovers().await?;
        let written = self.write_counts(snapshot).await?;
        self.write_days(snapshot).await?;
        for top in &self.tops {
            self.unless_superseded("RENAME", vec![self.beside(top), top.clone()], []).await?;
        }
        self.delete_unknown().await?;
        self.go_live(snapshot).await?;
        info!(epoch = self.epoch, counters = written, "the counters are rebuilt");
        Ok(())
    }

    /// The lock is Postgres': who lost it without noticing must not undo what the next rebuild writes.
    async fn unless_superseded(
        &self,
        command: &str,
        keys: Vec<String>,
        values: impl IntoIterator<Item = i64>,
    ) -> anyhow::Result<()> {
        let script = Script::from_lua(include_str!("unless_superseded.lua"));
        let keys: Vec<_> = [keys::COUNTERS.to_owned()].into_iter().chain(keys).collect();
        let values = values.into_iter().map(|it| it.to_string());
        let args: Vec<_> =
            [self.epoch.clone(), command.to_owned()].into_iter().chain(values).collect();
        let done: i64 = script.evalsha_with_reload(self.redis, keys, args).await?;
        anyhow::ensure!(done == 1, SUPERSEDED);
        Ok(())
    }

    fn beside(&self, top: &str) -> String {
        format!("tm:next:{}:{top}", self.epoch)
    }

    /// Absolute values of every counter, and the sorted sets beside the live ones.
    async fn write_counts(&mut self, snapshot: &Transaction<'_>) -> anyhow::Result<usize> {
        let statement = snapshot.prepare(include_str!("read_all_counts.sql")).await?;
        let none: [&str; 0] = [];
        let rows = snapshot.query_raw(&statement, none).await?.try_chunks(CHUNK);
        let mut rows = std::pin::pin!(rows);
        let mut written = 0;
        while let Some(chunk) = rows.try_next().await? {
            let pipeline = self.redis.pipeline();
            let (mut counters, mut counts) = (Vec::new(), Vec::new());
            for row in &chunk {
                let (object_type, id, action): (&str, &str, &str) =
                    (row.get(0), row.get(1), row.get(2));
                let count: i64 = row.get(3);
                let top = keys::top(object_type, action);
                let member = (count as f64, keys::member(object_type, id));
                counters.push(keys::counter(object_type, id, action));
                counts.push(count);
                let beside = self.beside(&top);
                pipeline.zadd::<(), _, _>(beside, None, None, false, false, member).await?;
                self.tops.insert(top);
            }
            pipeline.all::<()>().await.context("write a chunk of sorted sets")?;
            self.unless_superseded("MSET", counters, counts).await?;
            written += chunk.len();
        }
        Ok(written)
    }

    async fn write_days(&mut self, snapshot: &Transaction<'_>) -> anyhow::Result<()> {
        for row in snapshot.query("select day, users from daily_active", &[]).await? {
            let (day, users): (Date, i64) = (row.get(0), row.get(1));
            let key = keys::daily_users(day);
            self.unless_superseded("MSET", vec![key.clone()], [users]).await?;
            self.days.insert(key);
        }
        Ok(())
    }

    /// Deletes what Postgres does not know: counters without a member in their sorted set, sorted
    /// sets and days that were not written.
    async fn delete_unknown(&self) -> anyhow::Result<()> {
        let mut cursor = "0".to_owned();
        loop {
            let keys: Vec<String>;
            (cursor, keys) = self.redis.scan_page(cursor, "*", Some(CHUNK as u32), None).await?;
            let ours = keys.into_iter().filter(|key| !key.starts_with("tm:"));
            let (named, counters): (Vec<String>, Vec<String>) =
                ours.partition(|key| key.starts_with("top_") || key.starts_with("dau:"));
            let known = |key: &String| self.tops.contains(key) || self.days.contains(key);
            let mut doomed: Vec<String> = named.into_iter().filter(|key| !known(key)).collect();
            doomed.extend(self.unknown_counters(counters).await?);
            if !doomed.is_empty() {
                self.unless_superseded("DEL", doomed, []).await?;
            }
            if cursor == "0" {
                return Ok(());
            }
        }
    }

    async fn unknown_counters(&self, keys: Vec<String>) -> anyhow::Result<Vec<String>> {
        let pipeline = self.redis.pipeline();
        let mut asked = Vec::with_capacity(keys.len());
        for key in keys {
            let Some((top, member)) = keys::top_of_counter(&key) else { continue };
            pipeline.zscore::<(), _, _>(top, member.to_owned()).await?;
            asked.push(key);
        }
        if asked.is_empty() {
            return Ok(asked);
        }
        let scores: Vec<Option<f64>> = pipeline.all().await?;
        let unknown = asked.into_iter().zip(scores).filter(|(_, score)| score.is_none());
        Ok(unknown.map(|(key, _)| key).collect())
    }

    async fn delete_leftovers(&self) -> anyhow::Result<()> {
        let mut cursor = "0".to_owned();
        loop {
            let keys: Vec<String>;
            (cursor, keys) =
                self.redis.scan_page(cursor, "tm:next:*", Some(CHUNK as u32), None).await?;
            if !keys.is_empty() {
                self.redis.del::<(), _>(keys).await?;
            }
            if cursor == "0" {
                return Ok(());
            }
        }
    }

    /// Marks and the live state in one step, unless another rebuild has begun meanwhile.
    async fn go_live(&self, snapshot: &Transaction<'_>) -> anyhow::Result<()> {
        let mut args = vec![self.epoch.clone()];
        for row in snapshot.query(include_str!("read_all_marks.sql"), &[]).await? {
            args.extend([row.get::<_, i32>(0).to_string(), row.get::<_, i64>(1).to_string()]);
        }
        let script = Script::from_lua(include_str!("go_live.lua"));
        let live: i64 =
            script.evalsha_with_reload(self.redis, vec![keys::COUNTERS.to_owned()], args).await?;
        anyhow::ensure!(live == 1, SUPERSEDED);
        Ok(())
    }
}
