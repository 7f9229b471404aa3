//! Sends a daemon's metrics to the topic `service-metrics`, for those who only have the bus.

use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use prometheus::{Registry, TextEncoder};
use serde::Serialize;
use serde_json::{Map, Number, Value};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::config::KafkaConfig;
use crate::kafka::{Outgoing, Producer, ensure_topics};
use crate::topic;

/// What is sent, and how often. It holds at most one report, and whatever happens to that concerns
/// nobody but the log.
pub struct Reporter {
    pub service: &'static str,
    pub registry: Registry,
    pub kafka: KafkaConfig,
    pub every: Duration,
}

/// The value of a record.
#[derive(Debug, Serialize)]
struct Report<'a> {
    service: &'a str,
    instance: &'a str,
    at: String,
    /// Under the names they have at `/metrics`, labels included.
    metrics: Map<String, Value>,
}

impl Reporter {
    /// How long the last report may take when the daemon has stopped.
    const LAST_WITHIN: Duration = Duration::from_secs(1);

    /// Sends until it is told to stop, and then once more.
    pub async fn run(self, stop: CancellationToken) {
        let instance = instance();
        let mut connected = None;
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let sent = stop.run_until_cancelled(self.send(&mut connected, &instance)).await;
            if let Some(Err(error)) = sent {
                debug!(error = format!("{error:#}"), "the metrics did not reach the bus");
                // A client may never recover from an outage.
                connected = None;
            }
        }
        if connected.is_some() {
            let last = self.send(&mut connected, &instance);
            let _late = tokio::time::timeout(Self::LAST_WITHIN, last).await;
        }
    }

    async fn send(&self, connected: &mut Option<Producer>, instance: &str) -> anyhow::Result<()> {
        let producer = match connected {
            Some(producer) => producer,
            None => {
                ensure_topics(&self.kafka, &[&topic::SERVICE_METRICS]).await?;
                connected.insert(Producer::connect(&self.kafka, Duration::ZERO, self.every, 1_024)?)
            }
        };
        let report = Report {
            service: self.service,
            instance,
            at: format!("{:.3}", Timestamp::now()),
            metrics: samples(&self.registry)?,
        };
        let value = serde_json::to_vec(&report).context("numbers and text become JSON")?;
        let record = Outgoing {
            topic: &format!("{}{}", self.kafka.kafka_topic_prefix, topic::SERVICE_METRICS.name),
            partition: None,
            key: Some(instance.as_bytes()),
            value: Some(&value),
            headers: &[],
        };
        Ok(producer.publish(&record)?.await?)
    }
}

/// Which process of which machine it is.
fn instance() -> String {
    let named = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = named.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    format!("{}/{}", host.trim(), std::process::id())
}

/// Every sample as `/metrics` shows it; JSON has no word for those that are no finite number.
fn samples(registry: &Registry) -> anyhow::Result<Map<String, Value>> {
    let text = TextEncoder::new().encode_to_string(&registry.gather())?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let samples = lines.filter_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        let value: f64 = value.parse().ok()?;
        let whole = value as i64;
        let number = if whole as f64 == value { whole.into() } else { Number::from_f64(value)? };
        Some((name.to_owned(), Value::Number(number)))
    });
    Ok(samples.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics;

    metrics! {
        pub struct SomeMetrics("some") {
            /// Things.
            things_total: IntCounterVec["kind"],
            /// A share.
            share: Gauge,
            /// Seconds.
            seconds: Histogram[vec![0.5]],
        }
    }

    #[test]
    fn samples_are_those_of_the_page_of_metrics() {
        let registry = Registry::new();
        let some = SomeMetrics::register(&registry).unwrap();
        some.things_total.with_label_values(&["a b"]).inc_by(3);
        some.share.set(0.25);
        some.seconds.observe(0.4);
        let samples = Value::Object(samples(&registry).unwrap());
        let expected = serde_json::json!({
            "some_things_total{kind=\"a b\"}": 3, "some_share": 0.25,
            "some_seconds_bucket{le=\"0.5\"}": 1, "some_seconds_bucket{le=\"+Inf\"}": 1,
            "some_seconds_sum": 0.4, "some_seconds_count": 1,
        });
        assert_eq!(samples, expected);
    }

    #[test]
    fn what_is_no_finite_number_is_left_out() {
        let registry = Registry::new();
        let some = SomeMetrics::register(&registry).unwrap();
        some.share.set(f64::NAN);
        assert!(!samples(&registry).unwrap().contains_key("some_share"));
    }

    #[test]
    fn a_broker_that_is_away_keeps_nobody_from_stopping() {
        let kafka = KafkaConfig {
            kafka_brokers: "127.0.0.1:1".to_owned(),
            kafka_topic_prefix: String::new(),
            kafka_partitions: 1,
            kafka_options: Vec::new(),
        };
        let every = Duration::from_millis(10);
        let reporter = Reporter { service: "test", registry: Registry::new(), kafka, every };
        let stop = CancellationToken::new();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let ended = runtime.block_on(async {
            let mut running = tokio::task::JoinSet::new();
            running.spawn(reporter.run(stop.clone()));
            tokio::time::sleep(Duration::from_millis(50)).await;
            stop.cancel();
            tokio::time::timeout(Duration::from_secs(5), running.join_next()).await
        });
        runtime.shutdown_background();
        assert!(ended.is_ok(), "it still runs");
    }
}
