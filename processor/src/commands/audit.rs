//! `processor audit`: Postgres, Redis, the unique stream and the ledger at equal marks.

mod statistics;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use common::kafka::{GroupOffsets, TopicPartition};
use common::{keys, postgres, redis};
use deadpool_postgres::{Pool, Transaction};
use fred::prelude::{Client as RedisClient, ClientLike, HashesInterface, KeysInterface};
use fred::types::scripts::Script;
use futures_util::TryStreamExt;
use jiff::civil::Date;
use tokio::time::{Instant, sleep};

use crate::config::Config;

/// Counters read and compared at once.
const CHUNK: usize = 2_000;

/// Exit code 0 only if everything agrees; each check says what it found.
pub async fn run(config: Config, wait_seconds: u64) -> anyhow::Result<ExitCode> {
    let audit = Audit::open(&config).await?;
    let deadline = Instant::now() + Duration::from_secs(wait_seconds);
    let mut report = Report::default();
    report.add("followers", audit.wait_for_followers(deadline).await);
    report.add("accounting", audit.check_accounting().await);
    report.add("rows", audit.check_rows().await);
    report.add("rollups", audit.check_rollups().await);
    report.add("statistics", statistics::check(&audit.pool).await);
    report.add("counters", audit.check_counters(deadline).await);
    report.add("daily users", audit.check_days(deadline).await);
    report.add("unique stream", audit.check_relay().await);
    Ok(report.conclude())
}

#[derive(Default)]
struct Report {
    drift: bool,
}

impl Report {
    fn add(&mut self, check: &str, found: anyhow::Result<String>) {
        match found {
            Ok(text) => println!("ok     {check:<14} {text}"),
            Err(error) => {
                self.drift = true;
                println!("DRIFT  {check:<14} {error:#}");
            }
        }
    }

    fn conclude(&self) -> ExitCode {
        println!("{}", if self.drift { "audit: DRIFT" } else { "audit: everything agrees" });
        if self.drift { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

/// One source with its marks.
struct Marks {
    source: i32,
    partition: TopicPartition,
    start: i64,
    ledger: i64,
    rollups: i64,
    statistics: i64,
}

/// A counter as Postgres names it.
type Counter = (String, String, String);

struct Audit {
    pool: Pool,
    redis: RedisClient,
    offsets: GroupOffsets,
}

impl Audit {
    async fn open(config: &Config) -> anyhow::Result<Self> {
        let pool = postgres::pool(&config.postgres, "audit")?;
        let redis = redis::client(&config.redis)?;
        redis.connect();
        tokio::time::timeout(Duration::from_secs(10), redis.wait_for_connect())
            .await
            .context("Redis does not answer (REDIS_URL)")??;
        let offsets = GroupOffsets::of(&config.kafka, &config.consumer_group)?;
        Ok(Self { pool, redis, offsets })
    }

    async fn marks(&self) -> anyhow::Result<Vec<Marks>> {
        let client = self.pool.get().await.context("connect to Postgres (DATABASE_URL)")?;
        let rows = client.query(include_str!("read_marks.sql"), &[]).await?;
        let marks = rows.iter().map(|row| Marks {
            source: row.get("source"),
            partition: TopicPartition { topic: row.get("topic"), partition: row.get("partition") },
            start: row.get("start_offset"),
            ledger: row.get("next_offset"),
            rollups: row.get("rollups"),
            statistics: row.get("statistics"),
        });
        Ok(marks.collect())
    }

    /// Waits until every follower has reached where the ledger stands now.
    async fn wait_for_followers(&self, deadline: Instant) -> anyhow::Result<String> {
        let goal = self.marks().await?;
        loop {
            let trailing = self.trailing(&goal).await?;
            if trailing.is_empty() {
                return Ok(format!("{} sources at their ledgers", goal.len()));
            }
            if Instant::now() >= deadline {
                bail!("still behind: {}", trailing.join(", "));
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn trailing(&self, goal: &[Marks]) -> anyhow::Result<Vec<String>> {
        let now = self.marks().await?;
        let counted = self.counter_marks().await?;
        let mut trailing = Vec::new();
        for (goal, now) in goal.iter().zip(&now) {
            let relayed = self.offsets.committed(&goal.partition).await?.unwrap_or(goal.start);
            let counted = counted.get(&goal.source).copied().unwrap_or(goal.start);
            for (name, mark) in [
                ("rollups", now.rollups),
                ("statistics", now.statistics),
                ("counters", counted),
                ("relay", relayed),
            ] {
                if mark < goal.ledger {
                    trailing
                        .push(format!("{name} of {} at {mark} of {}", goal.partition, goal.ledger));
                }
            }
        }
        Ok(trailing)
    }

    /// Empty while the counters are being rebuilt.
    async fn counter_marks(&self) -> anyhow::Result<HashMap<i32, i64>> {
        let fields: HashMap<String, String> = self.redis.hgetall(keys::COUNTERS).await?;
        if fields.get("state").map(String::as_str) != Some("live") {
            return Ok(HashMap::new());
        }
        let mark =
            |(name, value): (&String, &String)| Some((name.parse().ok()?, value.parse().ok()?));
        Ok(fields.iter().filter_map(mark).collect())
    }

    async fn check_accounting(&self) -> anyhow::Result<String> {
        let client = self.pool.get().await?;
        let row = client.query_one(include_str!("check_accounting.sql"), &[]).await?;
        let (unbalanced, unexplained, consumed): (i64, i64, i64) =
            (row.get(0), row.get(1), row.get(2));
        if unbalanced > 0 {
            bail!("{unbalanced} sources whose outcomes do not sum to what was consumed");
        }
        if unexplained > 0 {
            bail!(
                "{unexplained} sources whose records and skipped offsets do not sum to their range"
            );
        }
        Ok(format!("{consumed} consumed, each ended in one way"))
    }

    async fn check_rows(&self) -> anyhow::Result<String> {
        let client = self.pool.get().await?;
        let row = client.query_one(include_str!("check_rows.sql"), &[]).await?;
        let [stored, rows, keys, dead, letters] = [0, 1, 2, 3, 4].map(|at| row.get::<_, i64>(at));
        if rows != stored || keys < rows {
            bail!("{stored} stored, but {rows} rows and {keys} keys");
        }
        if letters != dead {
            bail!("{dead} dead-lettered, but {letters} dead letters");
        }
        Ok(format!("{rows} rows, {letters} dead letters"))
    }

    async fn check_rollups(&self) -> anyhow::Result<String> {
        let client = self.pool.get().await?;
        let row = client.query_one(include_str!("check_rollups.sql"), &[]).await?;
        let [counts, wrong_counts, wrong_users] = [0, 1, 2].map(|at| row.get::<_, i64>(at));
        if wrong_counts + wrong_users > 0 {
            bail!(
                "{wrong_counts} object counts and {wrong_users} users of days differ from the rows"
            );
        }
        Ok(format!("{counts} object counts equal to the rows"))
    }

    /// Compares every counter with Postgres; those that differ from one snapshot are looked at
    /// again at the very marks under which Redis showed them.
    async fn check_counters(&self, deadline: Instant) -> anyhow::Result<String> {
        let (expected, total) = self.differing(deadline).await?;
        let mut wrong = Vec::new();
        for chunk in expected.chunks(CHUNK) {
            wrong.extend(self.wrong_at_equal_marks(chunk).await?);
        }
        match wrong.first() {
            Some(first) => bail!("{} counters differ, first {first}", wrong.len()),
            None => Ok(format!("{total} counters in Redis equal to Postgres")),
        }
    }

    /// Counters that are not what a snapshot says, and those it does not know.
    async fn differing(&self, deadline: Instant) -> anyhow::Result<(Vec<Counter>, usize)> {
        let client = self.pool.get().await?;
        let statement = client.prepare(include_str!("../follow/read_all_counts.sql")).await?;
        let none: [&str; 0] = [];
        let rows = client.query_raw(&statement, none).await?.try_chunks(CHUNK);
        let mut rows = std::pin::pin!(rows);
        let mut differing = Vec::new();
        let mut known = HashMap::new();
        while let Some(chunk) = rows.try_next().await? {
            let counters: Vec<Counter> =
                chunk.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
            let shown = self.shown(&counters).await?.values;
            for ((row, counter), shown) in chunk.iter().zip(counters).zip(shown) {
                known.insert(keys::counter(&counter.0, &counter.1, &counter.2), ());
                if shown != (row.get(3), row.get(3)) {
                    differing.push(counter);
                }
            }
        }
        self.wait_until_known(self.unknown_keys(&known).await?, deadline).await?;
        Ok((differing, known.len()))
    }

    /// A counter born after the snapshot is known to the rollups as soon as they have caught up.
    async fn wait_until_known(
        &self,
        mut unknown: Vec<String>,
        deadline: Instant,
    ) -> anyhow::Result<()> {
        while !unknown.is_empty() {
            let client = self.pool.get().await?;
            let later = client.query(include_str!("../follow/read_all_counts.sql"), &[]).await?;
            let later: HashSet<String> =
                later.iter().map(|row| keys::counter(row.get(0), row.get(1), row.get(2))).collect();
            unknown.retain(|key| !later.contains(key));
            if let Some(first) = unknown.first() {
                if Instant::now() >= deadline {
                    bail!("{} counters that Postgres does not know, first {first}", unknown.len());
                }
                sleep(Duration::from_millis(200)).await;
            }
        }
        Ok(())
    }

    async fn unknown_keys(&self, known: &HashMap<String, ()>) -> anyhow::Result<Vec<String>> {
        let mut unknown = Vec::new();
        let mut cursor = "0".to_owned();
        loop {
            let page: Vec<String>;
            (cursor, page) = self.redis.scan_page(cursor, "*", Some(CHUNK as u32), None).await?;
            let foreign = |key: &String| {
                !["tm:", "top_", "dau:"].iter().any(|own| key.starts_with(own))
                    && !known.contains_key(key)
            };
            unknown.extend(page.into_iter().filter(foreign));
            if cursor == "0" {
                return Ok(unknown);
            }
        }
    }

    async fn wrong_at_equal_marks(&self, counters: &[Counter]) -> anyhow::Result<Vec<String>> {
        let shown = self.shown(counters).await?;
        let mut client = self.pool.get().await?;
        let snapshot = postgres::snapshot(&mut client).await?;
        let counted = count_rows(&snapshot, counters, &shown.marks).await?;
        let wrong = counters.iter().zip(&shown.values).filter_map(|(counter, shown)| {
            let rows = counted.get(counter).copied().unwrap_or(0);
            let key = keys::counter(&counter.0, &counter.1, &counter.2);
            (*shown != (rows, rows))
                .then(|| format!("{key} = {} (score {}) against {rows} rows", shown.0, shown.1))
        });
        Ok(wrong.collect())
    }

    /// Counters with their scores, and the marks they were shown at, in one step of Redis.
    async fn shown(&self, counters: &[Counter]) -> anyhow::Result<Shown> {
        let mut names = vec![keys::COUNTERS.to_owned()];
        let mut members = Vec::with_capacity(counters.len());
        for (object_type, id, action) in counters {
            names.push(keys::counter(object_type, id, action));
            names.push(keys::top(object_type, action));
            members.push(keys::member(object_type, id));
        }
        let script = Script::from_lua(include_str!("show_counters.lua"));
        let (marks, values): (Vec<String>, Vec<i64>) =
            script.evalsha_with_reload(&self.redis, names, members).await?;
        let marks = marks
            .chunks_exact(2)
            .filter_map(|pair| Some((pair[0].parse::<i32>().ok()?, pair[1].parse::<i64>().ok()?)));
        Ok(Shown {
            marks: marks.collect(),
            values: values.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect(),
        })
    }

    /// The users of each day; a day that moves meanwhile is asked for again.
    async fn check_days(&self, deadline: Instant) -> anyhow::Result<String> {
        loop {
            let client = self.pool.get().await?;
            let rows = client.query("select day, users from daily_active", &[]).await?;
            let days: BTreeMap<Date, i64> =
                rows.iter().map(|row| (row.get(0), row.get(1))).collect();
            let mut wrong = Vec::new();
            for (day, users) in &days {
                let shown: Option<i64> = self.redis.get(keys::daily_users(*day)).await?;
                if shown != Some(*users) {
                    wrong.push(format!("{day} shows {shown:?}, Postgres has {users}"));
                }
            }
            if wrong.is_empty() {
                return Ok(format!("{} days equal to Postgres", days.len()));
            }
            if Instant::now() >= deadline {
                bail!("{}", wrong.join(", "));
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn check_relay(&self) -> anyhow::Result<String> {
        let mut relayed = 0;
        for marks in self.marks().await? {
            let committed = self.offsets.committed(&marks.partition).await?.unwrap_or(marks.start);
            let ledger_after = self.marks().await?;
            let ledger = ledger_after.iter().find(|it| it.source == marks.source);
            if committed > ledger.map_or(marks.ledger, |it| it.ledger) {
                bail!("{} is relayed to {committed}, past its ledger", marks.partition);
            }
            relayed += committed - marks.start;
        }
        Ok(format!("relayed {relayed} offsets, none past its ledger"))
    }
}

struct Shown {
    marks: Vec<(i32, i64)>,
    values: Vec<(i64, i64)>,
}

/// How many rows each counter has before the marks.
async fn count_rows(
    snapshot: &Transaction<'_>,
    counters: &[Counter],
    marks: &[(i32, i64)],
) -> anyhow::Result<HashMap<Counter, i64>> {
    let (sources, offsets): (Vec<i32>, Vec<i64>) = marks.iter().copied().unzip();
    let types: Vec<&str> = counters.iter().map(|it| it.0.as_str()).collect();
    let ids: Vec<&str> = counters.iter().map(|it| it.1.as_str()).collect();
    let actions: Vec<&str> = counters.iter().map(|it| it.2.as_str()).collect();
    let sql = include_str!("count_rows.sql");
    let rows = snapshot.query(sql, &[&sources, &offsets, &types, &ids, &actions]).await?;
    Ok(rows.iter().map(|row| ((row.get(0), row.get(1), row.get(2)), row.get(3))).collect())
}
