//! The drain: a topic preloaded with 500-byte events, a fifth of them duplicates, until Postgres holds
//! the unique ones; against the COPY ceiling of the same rows in the same run.
//!
//! The clock runs from the first judged records, which do not count themselves, so that joining the
//! group does not count either. Meanwhile the followers (relay, counters, rollups) work as they always do; how long they need until they
//! have caught up is told beside it.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::{Instant, sleep};

use crate::installation::Installation;
use crate::postgres::Connection;
use crate::program::Program;
use crate::report::{Report, Row, grouped, percent};
use crate::usage::{Meter, Used};
use crate::{LoadConfig, ceiling, events, preload};

const DUPLICATE_PERCENT: u64 = 20;
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Nothing judged for so long is a failure.
const STALLED: Duration = Duration::from_secs(120);

const VARIANTS: [(&str, &[(&str, &str)]); 4] = [
    ("drain", &[]),
    ("drain, Bloom filter off", &[("DEDUP_BLOOM", "off")]),
    ("drain, Redis markers off", &[("DEDUP_REDIS", "off")]),
    ("drain, both off", &[("DEDUP_BLOOM", "off"), ("DEDUP_REDIS", "off")]),
];

/// How judging went.
pub struct Judged {
    /// Without those that were judged when the clock was started.
    records: i64,
    pub took: Duration,
    pub followed: Duration,
    pub usage: Vec<(&'static str, Used)>,
}

impl Judged {
    pub fn rate(&self) -> f64 {
        self.records as f64 / self.took.as_secs_f64()
    }

    pub fn behind(&self) -> String {
        let followed = (self.followed - self.took).as_secs_f64();
        format!("followers {followed:.1} s later")
    }
}

/// Events a second of the drain with everything on.
pub async fn measure(load: &LoadConfig, report: &mut Report) -> anyhow::Result<f64> {
    let numbers = events::with_duplicates(load.seed, load.events, DUPLICATE_PERCENT);
    let variants = if load.quick { 1 } else { VARIANTS.len() };
    warm_up(load).await?;
    let mut whole = None;
    for (what, settings) in &VARIANTS[..variants] {
        let installation = Installation::new(settings).await?;
        preload::preload(&installation, load.seed, &numbers).await?;
        let judged = judge(&installation, numbers.len() as i64).await?;
        ensure_rows(&installation, i64::from(events::distinct(&numbers))).await?;
        let (drain, ceiling) = match whole {
            Some((_, ceiling)) => (judged.rate(), ceiling),
            None => (judged.rate(), ceiling::measure(&installation, &numbers, report).await?),
        };
        whole.get_or_insert((drain, ceiling));
        report.add(Row {
            what: (*what).to_owned(),
            rate: format!("{} events/s", grouped(drain)),
            against: format!("{} of the ceiling; {}", percent(drain, ceiling), judged.behind()),
            latency: String::new(),
            usage: judged.usage,
        });
        installation.remove().await?;
    }
    whole.map(|(drain, _)| drain).ok_or_else(|| anyhow::anyhow!("no variant was measured"))
}

/// A drain that does not count: the servers are fresh, the broker is not compiled yet, and Postgres
/// has no log files to write again. The ceiling is measured after a drain, so it needs none.
async fn warm_up(load: &LoadConfig) -> anyhow::Result<()> {
    let installation = Installation::new(&[]).await?;
    let numbers: Vec<u32> = (0..load.events / 2).collect();
    preload::preload(&installation, load.seed, &numbers).await?;
    judge(&installation, numbers.len() as i64).await?;
    installation.remove().await
}

/// Starts a processor, waits until it has judged so many records more and its followers have
/// caught up, and stops it.
pub async fn judge(installation: &Installation, records: i64) -> anyhow::Result<Judged> {
    let postgres = installation.postgres().await?;
    postgres.checkpoint().await;
    let before = consumed(&postgres).await?;
    let mut processor = installation.start("processor")?;
    let mut watched = vec![processor.watched()?];
    watched.extend(installation.servers());
    let meter = Meter::start(watched)?;
    let first = wait_consumed(&postgres, &mut processor, before + 1).await?;
    let began = Instant::now();
    wait_consumed(&postgres, &mut processor, before + records).await?;
    let took = began.elapsed();
    let usage = meter.read();
    installation.wait_followed().await?;
    let followed = began.elapsed();
    processor.stop().await?;
    let records = before + records - first;
    Ok(Judged { records, took, followed, usage })
}

/// How much was judged when it was seen to be enough.
async fn wait_consumed(
    postgres: &Connection,
    processor: &mut Program,
    wanted: i64,
) -> anyhow::Result<i64> {
    let (mut last, mut moved) = (0, Instant::now());
    loop {
        let now = consumed(postgres).await?;
        if now >= wanted {
            return Ok(now);
        }
        processor.ensure_running()?;
        if now > last {
            (last, moved) = (now, Instant::now());
        }
        let stalled = moved.elapsed() > STALLED;
        ensure!(!stalled, "judging stays at {now} of {wanted}: {}", processor.log_tail());
        sleep(LOOK_EVERY).await;
    }
}

async fn consumed(postgres: &Connection) -> anyhow::Result<i64> {
    postgres.number("select coalesce(sum(consumed), 0)::bigint from consumer_ledger").await
}

/// A drain that lost or doubled an event would be no measurement.
pub async fn ensure_rows(installation: &Installation, expected: i64) -> anyhow::Result<()> {
    let rows = installation.postgres().await?.number("select count(*) from events").await?;
    ensure!(rows == expected, "{rows} rows of {expected} unique events");
    Ok(())
}
