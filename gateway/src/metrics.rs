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
        /// WebSockets and event streams open now, by what they listen to.
        push_sockets: IntGaugeVec["stream"],
        /// Messages sent to sockets; one sent to two of them counts twice.
        push_messages_sent_total: IntCounterVec["stream"],
        /// Sockets that were too slow: told so and cut.
        push_sockets_lagged_total: IntCounterVec["stream"],
        /// Sockets that resumed further back than memory reaches, and read from Kafka by themselves.
        push_catch_ups_total: IntCounterVec["stream"],
        /// Records that nobody could be shown, since they keep to no schema.
        push_unreadable_total: IntCounterVec["stream"],
        /// Seconds since the epoch at which all keys were last read from Postgres.
        keys_refreshed_at_seconds: IntGauge,
        /// Requests refused because a budget was used up, by whose: ip or key.
        requests_limited_total: IntCounterVec["limit"],
        /// Leases of budgets asked of Redis: granted, refused, late, failed or not_asked; after the last three this instance went by the limit alone.
        quota_leases_total: IntCounterVec["outcome"],
        /// Requests with an `Idempotency-Key`: first, replayed, in_flight, other_request, or unclaimed because Redis did not answer.
        idempotent_requests_total: IntCounterVec["outcome"],
        /// Answers to such requests: stored, released (it tells to send again), too_large, no_room, or lost because Redis did not answer.
        idempotent_answers_total: IntCounterVec["outcome"],
    }
}
