//! The SDKs of others, as their packages come, against a real gateway and processor: whatever is lost on the
//! way, each leaves exactly its events.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use hyper::StatusCode;
use tests::Installation;
use tests::lossy::{Loss, LossyProxy};
use tests::{program, script};

/// A script of `tests/clients`, and a setting of its SDK.
const CLIENTS: [(&str, &str); 12] = [
    ("segment.mjs", ""),
    ("rudder.mjs", ""),
    ("posthog.mjs", "v0"),
    ("posthog.mjs", "v1"),
    ("amplitude.mjs", ""),
    ("cloudevents.mjs", ""),
    ("segment_python.py", ""),
    ("rudder_python.py", ""),
    ("posthog_python.py", "v0"),
    ("posthog_python.py", "v1"),
    ("amplitude_python.py", ""),
    ("cloudevents_python.py", ""),
];

/// Interpreters at the same time: more only wait for each other.
const RUNNING_MAX: usize = 4;

/// Each client sends so many events, and some of them twice.
const EVENTS: usize = 20;
const REPEATED: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn every_sdk_leaves_its_events_once() -> anyhow::Result<()> {
    let tallyman = Installation::new().await?;
    let (mut gateway, _http) = tallyman.start_gateway().await?;
    let mut processor = tallyman.start_processor()?;
    let url = format!("http://{}", gateway.address);
    let sent: Vec<_> = stream::iter(CLIENTS)
        .map(|client| run(client, &url, &tallyman.write_key))
        .buffer_unordered(RUNNING_MAX)
        .try_collect()
        .await?;
    expect_each_once(&tallyman, &sent.concat()).await?;
    gateway.stop().await?;
    processor.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_makes_no_event_count_twice() -> anyhow::Result<()> {
    let tallyman = Installation::new().await?;
    let (mut gateway, _http) = tallyman.start_gateway().await?;
    let mut processor = tallyman.start_processor()?;
    let url = format!("http://{}", gateway.address);
    let losses = [
        Loss::Status(StatusCode::SERVICE_UNAVAILABLE),
        Loss::Status(StatusCode::TOO_MANY_REQUESTS),
        Loss::Reset,
    ];
    let runs = CLIENTS.iter().flat_map(|client| losses.map(|loss| (*client, loss)));
    let sent: Vec<_> = stream::iter(runs)
        .map(|(client, loss)| run_behind(&url, &tallyman.write_key, client, loss))
        .buffer_unordered(RUNNING_MAX)
        .try_collect()
        .await?;
    let duplicates = expect_each_once(&tallyman, &sent.concat()).await?;
    let planned = (REPEATED * sent.len()) as i64;
    ensure!(duplicates > planned, "{duplicates} duplicates: nobody sent a lost batch again");
    gateway.stop().await?;
    processor.stop().await
}

/// The client loses its first two answers, and says so by what it sends again.
async fn run_behind(
    gateway: &str,
    key: &str,
    client: (&str, &str),
    loss: Loss,
) -> anyhow::Result<Vec<String>> {
    let proxy = LossyProxy::start(gateway, loss, 2).await?;
    let ids = run(client, &proxy.url, key).await.with_context(|| format!("{loss:?}"))?;
    println!("{client:?}, {loss:?}: {} requests", proxy.requests());
    ensure!(proxy.requests() >= 2, "{client:?} sent {} requests", proxy.requests());
    Ok(ids)
}

/// Runs a client to its end; the ids it sent.
async fn run((script, mode): (&str, &str), url: &str, key: &str) -> anyhow::Result<Vec<String>> {
    let mut command = script::command(script)?;
    command.env("GATEWAY_URL", url).env("WRITE_KEY", key).env("PYTHONDONTWRITEBYTECODE", "1");
    if !mode.is_empty() {
        command.env("POSTHOG_CAPTURE_MODE", mode);
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    let ran = program::output(command, Duration::from_secs(90)).await.context(script.to_owned())?;
    let told = String::from_utf8_lossy(&ran.stderr);
    ensure!(ran.status.success(), "{script} {mode} ended with {}: {told}", ran.status);
    let ids: Vec<_> = String::from_utf8(ran.stdout)?.lines().map(str::to_owned).collect();
    ensure!(ids.len() == EVENTS, "{script} {mode} sent {} events: {told}", ids.len());
    Ok(ids)
}

/// Says how many duplicates there were.
async fn expect_each_once(tallyman: &Installation, sent: &[String]) -> anyhow::Result<i64> {
    tallyman.wait_drained().await?;
    let postgres = tallyman.postgres().await?;
    let letters = postgres.rows("select error_code, error_detail from dead_letters").await?;
    let letters: Vec<(String, String)> = letters.iter().map(|it| (it.get(0), it.get(1))).collect();
    ensure!(letters.is_empty(), "dead letters: {letters:?}");
    let rows = postgres
        .rows("select event_id from events where event_type = 'like' and object_type = 'post'")
        .await?;
    let stored: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let (once, sent): (BTreeSet<_>, BTreeSet<_>) = (stored.iter().collect(), sent.iter().collect());
    ensure!(stored.len() == once.len(), "{} rows of {} events", stored.len(), once.len());
    let missing: Vec<_> = sent.difference(&once).collect();
    ensure!(missing.is_empty(), "{} of {} are missing: {missing:?}", missing.len(), sent.len());
    ensure!(once == sent, "{} stored, {} sent", once.len(), sent.len());
    let all = postgres.number("select count(*) from events").await?;
    let duplicates = postgres.number("select sum(duplicate)::bigint from accounting").await?;
    println!("{all} events, {duplicates} duplicates");
    tallyman.run("processor", &["audit"]).await?;
    Ok(duplicates)
}
