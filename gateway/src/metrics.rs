//! What the gateway counts.

use common::metrics::latency_buckets;

common::metrics! {
    pub struct GatewayMetrics("gateway") {
        /// Events by verdict: accepted, rejected or retry; they sum to what was read.
        events_received_total: IntCounterVec["verdict"],
        /// Rejected events by the code of their verdict.
        events_rejected_total: IntCounterVec["code"],
        /// Answers by HTTP status.
        responses_total: IntCounterVec["status"],
        /// Seconds from a submission's headers to its answer, the broker's acknowledgement included.
        submission_duration_seconds: Histogram[latency_buckets()],
        /// Bytes of request bodies taken, after decompression.
        body_bytes_total: IntCounter,
        /// Bytes of request bodies in memory now.
        inflight_bytes: IntGauge,
        /// Connections open now.
        connections: IntGauge,
        /// Credentials by what became of them: allowed, missing, unknown, lacks_right or unavailable.
        credentials_checked_total: IntCounterVec["outcome"],
        /// Look-ups in Postgres of keys the cache did not hold.
        key_lookups_total: IntCounter,
        /// Seconds since the epoch at which all keys were last read from Postgres.
        keys_refreshed_at_seconds: IntGauge,
    }
}
