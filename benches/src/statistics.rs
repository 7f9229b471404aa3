//! The statistics: how long each question takes over ten million events of half a million users in thirty
//! days, worked out and kept.
//!
//! Rows are written by SQL, in the order of their time; the statistics are made of them by
//! `processor rebuild statistics`, which does what the follower of a running processor does.

use std::time::Duration;

use anyhow::ensure;
use hdrhistogram::Histogram;
use reqwest::Client;
use tokio::time::Instant;

use crate::LoadConfig;
use crate::installation::Installation;
use crate::redis;
use crate::report::{Report, Row, grouped};

/// Rows written by one statement.
const CHUNK: u32 = 500_000;
/// Askings of each question: worked out, since Redis is emptied before each; then kept.
const COLD: usize = 60;
const KEPT: usize = 300;

const NEW_YORK: &str = "&tz=America/New_York";

/// What is asked, over the whole history or the last week of it.
const QUESTIONS: [(&str, &str); 15] = [
    ("dau, 30 days", "stats/dau?MONTH"),
    ("dau of a type, 30 days", "stats/dau?type=like&MONTH"),
    ("dau, 30 days, New York", "stats/dau?MONTH&ZONE"),
    ("retention, 30 × 30 days", "stats/retention?MONTH"),
    ("retention, 30 × 30 days, New York", "stats/retention?MONTH&ZONE"),
    ("top-events, 30 days", "stats/top-events?MONTH"),
    ("top-events, 30 days, New York", "stats/top-events?MONTH&ZONE"),
    ("top-objects, 30 days", "stats/top-objects?MONTH"),
    ("top-objects, 30 days, New York", "stats/top-objects?MONTH&ZONE"),
    ("activity by hour, 30 days", "stats/activity?unit=hour&MONTH"),
    ("activity by day and type, 30 days", "stats/activity?unit=day&by=type&MONTH"),
    ("activity by day and type, New York", "stats/activity?unit=day&by=type&MONTH&ZONE"),
    ("counters of an object", "objects/post/7/counters"),
    ("funnel of three steps, 7 days", "stats/funnel?steps=view,like,purchase&within=1d&WEEK"),
    ("activity of a user, 7 days", "stats/activity?unit=day&userId=u77&WEEK"),
];

pub async fn measure(load: &LoadConfig, report: &mut Report) -> anyhow::Result<()> {
    let installation = Installation::new(&[]).await?;
    let began = Instant::now();
    write_rows(&installation, load).await?;
    eprintln!("{} rows are written in {:.0} s", load.history, began.elapsed().as_secs_f64());
    let began = Instant::now();
    installation.run("processor", &["rebuild", "statistics"]).await?;
    let rate = f64::from(load.history) / began.elapsed().as_secs_f64();
    let rollup = "vacuum analyze object_counts_by_object";
    installation.postgres().await?.client.batch_execute(rollup).await?;
    report.add(Row {
        what: "statistics of stored rows".to_owned(),
        rate: format!("{} events/s", grouped(rate)),
        against: size(&installation).await?,
        ..Row::default()
    });
    let key = ["keys", "create", "--name", "bench", "--rights", "read"];
    let key = installation.run("gateway", &key).await?;
    let mut gateway = installation.start("gateway")?;
    gateway.ready().await?;
    let redis = redis::Connection::open(installation.redis_url()).await?;
    let client = Client::new();
    for (what, question) in QUESTIONS {
        let question = question
            .replace("MONTH", "from=2026-10-01&to=2026-10-31")
            .replace("WEEK", "from=2026-10-24&to=2026-10-31")
            .replace("&ZONE", NEW_YORK);
        let url = format!("http://{}/api/{question}", gateway.address);
        let ask = async || {
            let began = Instant::now();
            let answer = client.get(&url).header("x-api-key", &key).send().await?;
            let status = answer.status();
            let bytes = answer.bytes().await?;
            ensure!(status == 200, "{url}: {status} {}", String::from_utf8_lossy(&bytes));
            anyhow::Ok(began.elapsed())
        };
        let mut cold = Histogram::<u64>::new(3)?;
        for _ in 0..COLD {
            redis.flush_database().await?;
            cold.record(micros(ask().await?))?;
        }
        let mut kept = Histogram::<u64>::new(3)?;
        for _ in 0..KEPT {
            kept.record(micros(ask().await?))?;
        }
        report.add(Row {
            what: what.to_owned(),
            latency: format!("{}; kept {}", latency(&cold), latency(&kept)),
            ..Row::default()
        });
    }
    gateway.stop().await?;
    installation.remove().await
}

async fn write_rows(installation: &Installation, load: &LoadConfig) -> anyhow::Result<()> {
    let postgres = installation.postgres().await?;
    // No processor has run here that would have made them.
    postgres.client.execute("select ensure_event_leaves(7)", &[]).await?;
    let source = include_str!("statistics_source.sql");
    let total = i64::from(load.history);
    postgres.client.execute(source, &[&total]).await?;
    let statement = postgres.client.prepare(include_str!("statistics_rows.sql")).await?;
    for first in (0..load.history).step_by(CHUNK as usize) {
        let last = load.history.min(first + CHUNK) - 1;
        let (first, last) = (i64::from(first), i64::from(last));
        postgres.client.execute(&statement, &[&first, &last, &total]).await?;
    }
    // What a day of autovacuum would have done.
    postgres.client.batch_execute("vacuum analyze events").await?;
    Ok(())
}

/// How much the statistics take, and the rows they are of.
async fn size(installation: &Installation) -> anyhow::Result<String> {
    let postgres = installation.postgres().await?;
    let mib = async |tables: &str| {
        let sql = format!(
            "select (coalesce(sum(pg_total_relation_size(c.oid)), 0) / 1048576)::bigint
               from pg_class as c
              where relnamespace = current_schema()::regnamespace and relkind = 'r' and relname ~ '{tables}'"
        );
        postgres.number(&sql).await
    };
    let (packed, rows) = (mib("^(statistics_|users$|objects$)").await?, mib("^events_").await?);
    Ok(format!("{packed} MiB beside {rows} MiB of rows"))
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

fn latency(of: &Histogram<u64>) -> String {
    let ms = |quantile| of.value_at_quantile(quantile) as f64 / 1_000.0;
    format!("{:.1} / {:.1} ms", ms(0.5), ms(0.99))
}
