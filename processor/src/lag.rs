//! Tells how far the ledger and its followers are behind, for as long as this instance holds the partition.

use std::convert::Infallible;
use std::time::Duration;

use common::kafka::{GroupOffsets, TopicPartition};
use common::metrics::prometheus::IntGaugeVec;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::debug;

use crate::metrics::ProcessorMetrics;

/// Each time is a question to the broker.
const EVERY: Duration = Duration::from_secs(5);

/// Asks by itself where the log ends: also when nothing is judged, the lag is seen to grow.
pub async fn report_ledger(
    metrics: &ProcessorMetrics,
    offsets: &GroupOffsets,
    source: &TopicPartition,
    judged_to: watch::Receiver<i64>,
) -> Infallible {
    let partition = source.partition.to_string();
    let lag = Lag::new(&metrics.ledger_lag_offsets, &[&source.topic, &partition]);
    loop {
        match offsets.watermarks(source).await {
            Ok(marks) => lag.set(marks.high - *judged_to.borrow()),
            Err(error) => debug!(%source, %error, "the lag is not known"),
        }
        sleep(EVERY).await;
    }
}

/// A gauge that ends with its owner: who takes the partition next tells the lag, and sums over
/// instances must not hold it twice.
pub struct Lag {
    gauges: IntGaugeVec,
    labels: Vec<String>,
}

impl Lag {
    pub fn new(gauges: &IntGaugeVec, labels: &[&str]) -> Self {
        Self { gauges: gauges.clone(), labels: labels.iter().map(|&it| it.to_owned()).collect() }
    }

    /// In offsets; a mark that has just moved on may be ahead of what it was compared with.
    pub fn set(&self, offsets: i64) {
        self.gauges.with_label_values(&self.labels).set(offsets.max(0));
    }
}

impl Drop for Lag {
    fn drop(&mut self) {
        // Before the first answer there is nothing to take back.
        let _never_told = self.gauges.remove_label_values(&self.labels);
    }
}
