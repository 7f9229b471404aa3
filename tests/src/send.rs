//! The ways an event gets in: HTTP, kcat without keys, kcat keyed wrongly.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use common::config::KafkaConfig;
use common::kafka::{Outgoing, Producer};
use reqwest::StatusCode;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::events::Event;
use crate::random::Random;

/// How an event is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Http,
    /// To any partition.
    KcatWithoutKeys,
    /// Keys that have nothing to do with the user: copies of an event meet in different partitions.
    KcatKeyedWrongly,
}

impl Way {
    pub const ALL: [Self; 3] = [Self::Http, Self::KcatWithoutKeys, Self::KcatKeyedWrongly];
}

/// Sends to one gateway with one key; keeps its connections.
#[derive(Debug, Clone)]
pub struct HttpSender {
    pub url: String,
    pub key: String,
    client: reqwest::Client,
}

impl HttpSender {
    pub fn new(url: String, key: String) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?;
        Ok(Self { url, key, client })
    }

    /// One request, whatever comes of it.
    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> anyhow::Result<Answer> {
        let request =
            self.client.post(format!("{}{path}", self.url)).header("X-API-Key", &self.key);
        let response = request.header("Content-Type", "application/json").body(body).send().await?;
        let status = response.status();
        let text = response.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(Answer { status, body })
    }

    /// Asks with another key.
    pub async fn get(&self, path: &str, key: &str) -> anyhow::Result<reqwest::Response> {
        let request = self.client.get(format!("{}{path}", self.url)).header("X-API-Key", key);
        Ok(request.send().await?)
    }

    /// Sends events that must all be accepted at once.
    pub async fn accepted(&self, events: &[Event]) -> anyhow::Result<()> {
        for batch in events.chunks(100) {
            let answer = self.post("/api/events", array(batch)).await?;
            ensure!(answer.status == StatusCode::ACCEPTED, "{} {}", answer.status, answer.body);
            ensure!(answer.body["accepted"] == batch.len(), "{}", answer.body);
        }
        Ok(())
    }

    /// Sends as a good client does: what is not accepted is sent again until it is. Gives up only
    /// after a rejection or two minutes.
    pub async fn accepted_in_the_end(&self, events: &[Event]) -> anyhow::Result<()> {
        let mut left: Vec<&Event> = events.iter().collect();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
        let mut last = String::new();
        while !left.is_empty() {
            ensure!(tokio::time::Instant::now() < deadline, "not accepted for 120 s: {last}");
            match self.post("/api/events", array(left.iter().copied())).await {
                Ok(answer) => {
                    left = not_accepted(&left, &answer)?;
                    last = format!("{} {}", answer.status, answer.body);
                }
                Err(error) => last = format!("{error:#}"),
            }
            if !left.is_empty() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }
}

/// What a request was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Value,
}

fn array<'a>(events: impl IntoIterator<Item = &'a Event>) -> String {
    let events: Vec<_> = events.into_iter().map(|it| it.json.as_str()).collect();
    format!("[{}]", events.join(","))
}

/// The events that have to be sent again; a rejection is the test's mistake, or the gateway's.
fn not_accepted<'a>(sent: &[&'a Event], answer: &Answer) -> anyhow::Result<Vec<&'a Event>> {
    match answer.status {
        StatusCode::ACCEPTED => Ok(Vec::new()),
        StatusCode::MULTI_STATUS => {
            let results = answer.body["results"].as_array().context("no results")?;
            ensure!(results.len() == sent.len(), "{} results for {}", results.len(), sent.len());
            let verdicts = results.iter().zip(sent);
            let again = verdicts.filter(|(result, _)| result["status"] != "accepted");
            Ok(again.map(|(_, event)| *event).collect())
        }
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            Ok(sent.to_vec())
        }
        status => bail!("{status} {}", answer.body),
    }
}

/// A record whose bytes, key and partition the test decides.
#[derive(Debug, Clone)]
pub struct Raw {
    pub partition: i32,
    pub key: String,
    pub value: Option<Vec<u8>>,
}

/// Produces one record with headers; ends when the broker has it.
pub async fn produce_with_headers(
    kafka: &KafkaConfig,
    topic: &str,
    headers: &[(&str, &str)],
    value: &str,
) -> anyhow::Result<()> {
    let second = Duration::from_secs(1);
    let producer = Producer::connect(kafka, second / 200, second * 30, 1_024)?;
    let headers: Vec<_> = headers.iter().map(|(name, it)| (*name, Some(it.as_bytes()))).collect();
    let (key, value) = (None, Some(value.as_bytes()));
    producer.publish(&Outgoing { topic, partition: None, key, value, headers: &headers })?.await?;
    Ok(())
}

/// Produces records in their order; ends when the broker has them.
pub async fn produce(kafka: &KafkaConfig, topic: &str, records: &[Raw]) -> anyhow::Result<()> {
    let second = Duration::from_secs(1);
    let producer = Producer::connect(kafka, second / 200, second * 30, 262_144)?;
    let mut deliveries = Vec::new();
    for record in records {
        let delivery = producer.publish(&Outgoing {
            topic,
            partition: Some(record.partition),
            key: Some(record.key.as_bytes()),
            value: record.value.as_deref(),
            headers: &[],
        });
        deliveries.push(delivery.with_context(|| format!("queue {}", record.key))?);
    }
    for (delivery, record) in deliveries.into_iter().zip(records) {
        delivery.await.with_context(|| format!("produce {}", record.key))?;
    }
    Ok(())
}

/// Sends events with kcat, one line each; ends when the broker has them all.
pub async fn kcat(brokers: &str, topic: &str, events: &[Event], way: Way) -> anyhow::Result<()> {
    let mut command = Command::new("kcat");
    command.args(["-P", "-b", brokers, "-t", topic, "-X", "acks=all", "-X", "linger.ms=5"]);
    if way == Way::KcatKeyedWrongly {
        command.args(["-K", "\t"]);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("start kcat")?;
    let lines = lines(events, way);
    let mut stdin = child.stdin.take().context("kcat's standard input")?;
    stdin.write_all(lines.as_bytes()).await?;
    drop(stdin);
    let ended = child.wait_with_output().await?;
    ensure!(ended.status.success(), "kcat: {}", String::from_utf8_lossy(&ended.stderr));
    Ok(())
}

fn lines(events: &[Event], way: Way) -> String {
    let mut random = Random::of(events.first().map_or(0, |it| it.n));
    let mut lines = String::new();
    for event in events {
        if way == Way::KcatKeyedWrongly {
            lines.push_str(&format!("wrong-{}\t", random.below(1_000)));
        }
        lines.push_str(&event.json);
        lines.push('\n');
    }
    lines
}
