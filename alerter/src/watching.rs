//! The watch as the task of a partition of unique actions: what it finds becomes records and metrics.

use std::sync::Arc;
use std::time::SystemTime;

use common::kafka::{Headers, Record};
use common::notification::Rule;
use common::trace;

use crate::metrics::AlerterMetrics;
use crate::partition::{Changes, KillPoints, Task, Told};
use crate::state::UnreadableState;
use crate::watch::{Alert, Watch};
use crate::windows::{Clock, Now};

/// The watch of one partition, and where what it says goes.
pub struct Watching {
    pub watch: Watch,
    pub notification_topic: Arc<str>,
    pub partial_topic: Arc<str>,
    pub metrics: AlerterMetrics,
    /// The rules of the alerts that are being committed.
    pub rules_told: Vec<Rule>,
}

impl Task for Watching {
    const KILL_POINTS: KillPoints = KillPoints {
        after_restore: "alerter_after_restore",
        in_transaction: "alerter_in_transaction",
        before_commit: "alerter_before_commit",
        after_commit: "alerter_after_commit",
    };

    fn restore(&mut self, record: &Record) -> Result<(), UnreadableState> {
        let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default());
        self.watch.restore(&key, record.value.as_deref())
    }

    fn resume(&mut self, _now: Now) {
        self.watch.resume();
    }

    fn observe(&mut self, record: &Record, now: Now) -> Result<(), UnreadableState> {
        let value = record.value.as_deref().unwrap_or_default();
        self.watch.observe(value, trace::place_in(&record.headers), now);
        Ok(())
    }

    fn clock(&mut self) -> &mut Clock {
        self.watch.clock()
    }

    fn close(&mut self, now: Now) {
        self.watch.close(now);
    }

    fn has_changes(&self) -> bool {
        self.watch.has_changes()
    }

    fn take_changes(&mut self) -> Changes {
        let changes = self.watch.take_changes();
        self.rules_told.extend(changes.alerts.iter().map(|alert| alert.notification.data.rule));
        let partials = changes.partials.into_iter().map(|(key, value)| Told {
            topic: self.partial_topic.clone(),
            key,
            value,
            headers: Headers::default(),
        });
        let alerts = changes.alerts.iter().map(|alert| notice(&self.notification_topic, alert));
        Changes {
            told: alerts.chain(partials).collect(),
            states: changes.states.into_iter().map(|(key, value)| (key, Some(value))).collect(),
        }
    }

    fn committed(&mut self, records: u64) {
        let (metrics, noticed) = (&self.metrics, self.watch.take_noticed());
        metrics.records_consumed_total.inc_by(records);
        metrics.records_unreadable_total.inc_by(noticed.unreadable);
        metrics.events_late_total.inc_by(noticed.late);
        metrics.events_uncounted_total.inc_by(noticed.uncounted);
        metrics.windows_judged_total.inc_by(noticed.windows_judged);
        for rule in self.rules_told.drain(..) {
            metrics.notifications_total.with_label_values(&[rule.name()]).inc();
        }
    }

    fn size(&self) -> usize {
        self.watch.objects()
    }
}

fn notice(topic: &Arc<str>, alert: &Alert) -> Told {
    let mut headers = Headers::default();
    if let Some(place) = alert.place {
        headers.push(trace::HEADER, trace::tell("alert", place, SystemTime::now()).to_string());
    }
    let notification = &alert.notification;
    Told {
        topic: topic.clone(),
        key: notification.subject.clone().into_bytes(),
        value: serde_json::to_vec(notification).expect("a notification becomes JSON"),
        headers,
    }
}
