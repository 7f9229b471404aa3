//! The catalogue of the alerter's metrics.

use common::metrics;
use common::metrics::latency_buckets;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

metrics! {
    pub struct AlerterMetrics("alerter") {
        /// Unique actions taken from Kafka and committed.
        records_consumed_total: IntCounter,
        /// Records that are no canonical event; their offset is committed and nothing is counted.
        records_unreadable_total: IntCounter,
        /// Actions whose window was over when they came; they correct it.
        events_late_total: IntCounter,
        /// Actions of a type beyond those that one object may have; no milestone is told of them.
        events_uncounted_total: IntCounter,
        /// Notifications committed, by rule.
        notifications_total: IntCounterVec["rule"],
        /// Windows with enough likes to be judged.
        windows_judged_total: IntCounter,
        /// Changed objects and windows written to a state topic.
        states_written_total: IntCounter,
        /// Seconds of a Kafka transaction, from its first record to its commit.
        transaction_seconds: Histogram[latency_buckets()],
        /// Transactions that did not happen, by why; the partition is taken again.
        transactions_failed_total: IntCounterVec["reason"],
        /// Seconds from fencing to the restored state of a partition.
        restore_seconds: Histogram[latency_buckets()],
        /// Objects remembered, by partition.
        objects: IntGaugeVec["partition"],
        /// Partitions this instance watches now.
        partitions_owned: IntGauge,
        /// Unique actions that the group has not committed yet, by partition.
        lag_records: IntGaugeVec["partition"],
        /// Partials of windows taken from Kafka and committed.
        partials_consumed_total: IntCounter,
        /// Records among the partials that are none; they are left out.
        partials_unreadable_total: IntCounter,
        /// Partials that the group has not committed yet, by partition.
        partials_lag_records: IntGaugeVec["partition"],
        /// Partitions of partials this instance adds up now.
        partials_partitions_owned: IntGauge,
        /// Windows told, corrections included, each of their dimensions counted.
        aggregates_told_total: IntCounter,
        /// Windows told again because something came late.
        aggregates_corrected_total: IntCounter,
        /// Windows that are no longer remembered; their last word is said.
        aggregates_sealed_total: IntCounter,
        /// Actions that came for a window that is no longer remembered, by sizes of windows; they
        /// are in no window.
        events_too_late_total: IntCounter,
        /// Windows remembered, each of their dimensions counted, by partition.
        aggregates: IntGaugeVec["partition"],
        /// Windows written to a sink, corrections included.
        aggregates_stored_total: IntCounterVec["sink"],
        /// Windows that a sink refused as they are; only the topic has them.
        aggregates_refused_total: IntCounterVec["sink"],
        /// Windows that came for the table when they were older than it keeps them; only the topic has
        /// them.
        aggregates_expired_total: IntCounter,
        /// Rows that retention removed from the table of windows.
        aggregates_removed_total: IntCounter,
        /// Notifications written to the history, copies included.
        history_rows_total: IntCounter,
        /// Notifications that Postgres refused as they are; they are only in the topic.
        history_refused_total: IntCounter,
    }
}

/// What is measured of the partitions of one topic, whatever their task is.
pub struct PartitionMetrics {
    pub owned: IntGauge,
    pub size: IntGaugeVec,
    pub lag_records: IntGaugeVec,
    pub transaction_seconds: Histogram,
    pub failed_total: IntCounterVec,
    pub restore_seconds: Histogram,
    pub states_written_total: IntCounter,
}

impl AlerterMetrics {
    /// Of the partitions of unique actions.
    pub fn of_watching(&self) -> PartitionMetrics {
        let (owned, size) = (self.partitions_owned.clone(), self.objects.clone());
        self.of_partitions(owned, size, self.lag_records.clone())
    }

    /// Of the partitions of partials.
    pub fn of_summing(&self) -> PartitionMetrics {
        let (owned, size) = (self.partials_partitions_owned.clone(), self.aggregates.clone());
        self.of_partitions(owned, size, self.partials_lag_records.clone())
    }

    fn of_partitions(
        &self,
        owned: IntGauge,
        size: IntGaugeVec,
        lag_records: IntGaugeVec,
    ) -> PartitionMetrics {
        PartitionMetrics {
            owned,
            size,
            lag_records,
            transaction_seconds: self.transaction_seconds.clone(),
            failed_total: self.transactions_failed_total.clone(),
            restore_seconds: self.restore_seconds.clone(),
            states_written_total: self.states_written_total.clone(),
        }
    }
}
