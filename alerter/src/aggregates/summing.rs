//! The totals as the task of a partition of partials: what they tell becomes records and metrics.

use std::sync::Arc;

use common::kafka::{Headers, Record};
use tracing::warn;

use crate::aggregates::partials::NotAPartial;
use crate::aggregates::total::Aggregate;
use crate::aggregates::totals::Totals;
use crate::metrics::AlerterMetrics;
use crate::partition::{Changes, KillPoints, Task, Told};
use crate::state::UnreadableState;
use crate::windows::{Clock, Now};

/// The totals of one partition, and where they are told.
pub struct Summing {
    pub totals: Totals,
    pub result_topic: Arc<str>,
    pub metrics: AlerterMetrics,
    /// It was said that memory is short.
    pub was_squeezed: bool,
}

impl Task for Summing {
    const KILL_POINTS: KillPoints = KillPoints {
        after_restore: "totals_after_restore",
        in_transaction: "totals_in_transaction",
        before_commit: "totals_before_commit",
        after_commit: "totals_after_commit",
    };

    fn restore(&mut self, record: &Record) -> Result<(), UnreadableState> {
        let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default());
        self.totals.restore(&key, record.value.as_deref(), record.timestamp_ms)
    }

    fn resume(&mut self, now: Now) {
        self.totals.resume(now);
    }

    /// What is no partial nobody of ours wrote; one of a later version must not be lost.
    fn observe(&mut self, record: &Record, now: Now) -> Result<(), UnreadableState> {
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        let (key, value) = (key.unwrap_or_default(), value.unwrap_or_default());
        match self.totals.observe(key, value, now) {
            Ok(()) => {}
            Err(NotAPartial::Version(version)) => {
                let key = String::from_utf8_lossy(key).into_owned();
                return Err(UnreadableState::Version { key, version });
            }
            Err(NotAPartial::Shape(error)) => {
                self.metrics.partials_unreadable_total.inc();
                warn!(offset = record.offset, %error, "a record of the partials is left out");
            }
        }
        Ok(())
    }

    fn clock(&mut self) -> &mut Clock {
        self.totals.clock()
    }

    fn close(&mut self, now: Now) {
        self.totals.close(now);
    }

    fn has_changes(&self) -> bool {
        self.totals.has_changes()
    }

    fn take_changes(&mut self) -> Changes {
        let changes = self.totals.take_changes();
        let news = changes.news.into_iter();
        let told = news.map(|(key, aggregate)| told(&self.result_topic, key, &aggregate));
        Changes { told: told.collect(), states: changes.states }
    }

    fn committed(&mut self, records: u64) {
        let (metrics, noticed) = (&self.metrics, self.totals.take_noticed());
        metrics.partials_consumed_total.inc_by(records);
        metrics.aggregates_told_total.inc_by(noticed.told);
        metrics.aggregates_corrected_total.inc_by(noticed.corrections);
        metrics.aggregates_sealed_total.inc_by(noticed.sealed);
        if noticed.squeezed > 0 && !std::mem::replace(&mut self.was_squeezed, true) {
            warn!(
                windows = noticed.squeezed,
                "windows are sealed before their time: they do not fit into AGGREGATE_MEMORY_MB; \
                 said once, aggregates_sealed_total counts on"
            );
        }
        metrics.events_too_late_total.inc_by(noticed.too_late);
    }

    fn size(&self) -> usize {
        self.totals.size()
    }
}

fn told(topic: &Arc<str>, key: String, aggregate: &Aggregate) -> Told {
    Told {
        topic: topic.clone(),
        key: key.into_bytes(),
        value: serde_json::to_vec(aggregate).expect("an aggregate becomes JSON"),
        headers: Headers::default(),
    }
}
