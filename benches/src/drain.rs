//! The drain: a topic preloaded with 500-byte events, a fifth of them duplicates, until Postgres holds
//! the unique ones; against the COPY ceiling of the same rows, measured before and after it.
//!
//! The clock runs from the first judged records, which do not count themselves, so that joining the
//! group does not count either. Meanwhile the followers (relay, counters, rollups) work as they always
//! do; how long they need until they have caught up is told beside it.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::{Instant, sleep};

use crate::ceiling::{self, Ceiling};
use crate::installation::Installation;
use crate::postgres::Connection;
use crate::program::Program;
use crate::report::{Report, Row, grouped, percent};
use crate::usage::{Meter, Used};
use crate::{LoadConfig, events, preload};

const DUPLICATE_PERCENT: u64 = 20;
/// Each look is a query that the processor's share of the machine pays for.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// Nothing judged for so long is a failure.
const STALLED: Duration = Duration::from_secs(120);

const PARTS_OFF: [(&str, &[(&str, &str)]); 3] = [
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
    // The first drain does not count: the servers are fresh, the broker is not compiled yet, and
    // Postgres has no log files to write again.
    let (_warmed_up, before) = drain_and_copy(load, &numbers).await?;
    let (whole, after) = drain_and_copy(load, &numbers).await?;
    let ceiling = ceiling::mean(&before, &after);
    report.add(ceiling::row(&before, after));
    let rate = whole.rate();
    report.add(row("drain", whole, ceiling));
    if !load.quick {
        for (what, settings) in PARTS_OFF {
            let installation = Installation::new(settings).await?;
            report.add(row(what, drain(&installation, load, &numbers).await?, ceiling));
            installation.remove().await?;
        }
    }
    Ok(rate)
}

/// With everything on, and right behind it what it is compared with.
async fn drain_and_copy(load: &LoadConfig, numbers: &[u32]) -> anyhow::Result<(Judged, Ceiling)> {
    let installation = Installation::new(&[]).await?;
    let judged = drain(&installation, load, numbers).await?;
    let ceiling = ceiling::measure(&installation, numbers).await?;
    installation.remove().await?;
    Ok((judged, ceiling))
}

async fn drain(
    installation: &Installation,
    load: &LoadConfig,
    numbers: &[u32],
) -> anyhow::Result<Judged> {
    preload::preload(installation, load.seed, numbers).await?;
    let judged = judge(installation, numbers.len() as i64).await?;
    ensure_rows(installation, i64::from(events::distinct(numbers))).await?;
    Ok(judged)
}

fn row(what: &str, judged: Judged, ceiling: f64) -> Row {
    let rate = judged.rate();
    Row {
        what: what.to_owned(),
        rate: format!("{} events/s", grouped(rate)),
        against: format!("{} of the ceiling; {}", percent(rate, ceiling), judged.behind()),
        usage: judged.usage,
        ..Row::default()
    }
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
