//! The catalogue of the processor's metrics.

use common::event::InvalidEvent;
use common::metrics;
use common::metrics::latency_buckets;

metrics! {
    pub struct ProcessorMetrics("processor") {
        /// Records taken from Kafka, before deduplication.
        events_consumed_total: IntCounter,
        /// Records by how they ended; the outcomes sum to `events_consumed_total`.
        events_finished_total: IntCounterVec["outcome"],
        /// Dead letters by reason.
        dead_letters_total: IntCounterVec["code"],
        /// Offsets without a record: control records and aborted transactions.
        offsets_skipped_total: IntCounter,
        /// Duplicates by who recognised them: the batch itself, what was stored last, Redis, a look-up, the
        /// judge.
        duplicates_total: IntCounterVec["tier"],
        /// Batches judged, by way: optimistic, or exact.
        batches_judged_total: IntCounterVec["way"],
        /// Optimistic batches that met a stored key and were judged again.
        optimistic_conflicts_total: IntCounter,
        /// Redis answers to the deduplication: ok, late, error.
        seen_lookups_total: IntCounterVec["answer"],
        /// Seconds from the first record of a batch to its commit.
        batch_seconds: Histogram[latency_buckets()],
        /// Seconds of the judging transaction.
        judge_seconds: Histogram[latency_buckets()],
        /// Offsets between the ledger and each follower.
        follower_lag_offsets: IntGaugeVec["follower", "topic", "partition"],
        /// Offsets between the end of the log and the ledger.
        ledger_lag_offsets: IntGaugeVec["topic", "partition"],
        /// Batches read back from Postgres because memory had let go of them.
        read_back_total: IntCounterVec["follower"],
        /// Counter keys of a foreign type that refused their increment.
        counters_refused_total: IntCounter,
        /// Rebuilds of the Redis counters that this instance has done.
        counter_rebuilds_total: IntCounter,
        /// 1 while the Redis counters are being rebuilt by this instance.
        counters_rebuilding: IntGauge,
        /// Bytes of judged batches waiting for followers.
        follow_bytes: IntGauge,
        /// Ids in the in-memory filter.
        bloom_keys: IntGauge,
        /// The generation of Postgres this instance runs in.
        generation: IntGauge,
        /// Sessions of ours that were ended because others waited for their locks.
        blockers_terminated_total: IntCounter,
        /// Partitions this instance judges now.
        partitions_owned: IntGauge,
    }
}

/// The ways a record can end, as label values.
pub mod outcome {
    pub const STORED: &str = "stored";
    pub const DUPLICATE: &str = "duplicate";
    pub const DEAD_LETTERED: &str = "dead_lettered";
}

/// The code of a dead letter as a label: codes of ours, since a producer can write any into a header.
pub fn dead_letter_code(code: &str) -> &'static str {
    let known = InvalidEvent::ALL_CODES.into_iter().chain(["row_refused"]);
    known.into_iter().find(|it| *it == code).unwrap_or("other")
}
