//! The catalogue of the alerter's metrics.

use common::metrics;
use common::metrics::latency_buckets;

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
        /// Changed objects written to the state topic.
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
        /// Notifications written to the history, copies included.
        history_rows_total: IntCounter,
        /// Notifications that Postgres refused as they are; they are only in the topic.
        history_refused_total: IntCounter,
    }
}
