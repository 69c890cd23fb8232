//! All metrics of this service, and the collection of those that are sampled.
//!
//! A test compares this list with docs/operate/metrics.md.

use metrics::gauge;
use shared::contract::redis::keys::{AUDIT_STREAM, CONVERSATION_CHECK_STREAM, RECEIPT_STREAM};
use shared::kit::telemetry::exporter::MetricKind::{Counter, Gauge, Histogram};
use shared::kit::telemetry::exporter::{LOG_LINES_DROPPED, MetricSpec, SERVICE_READY};

use crate::state::AppState;
use crate::store::{Fallback, REASONS};

/// Streams that gateways write.
const STREAMS: &[&str] = &[RECEIPT_STREAM, AUDIT_STREAM, CONVERSATION_CHECK_STREAM];

/// All metrics.
pub const METRICS: &[MetricSpec] = &[
    MetricSpec::new(Counter, "ehr_chat_http_requests_total", "requests answered").with_label("route", &[]),
    MetricSpec::new(Histogram, "ehr_chat_http_request_duration_seconds", "from the head of a request to its answer")
        .with_label("route", &[]),
    MetricSpec::new(Gauge, "ehr_chat_http_requests_in_flight", "requests that are not answered yet"),
    MetricSpec::new(
        Counter,
        "ehr_chat_http_requests_abandoned_total",
        "requests whose caller went away before the answer",
    ),
    MetricSpec::new(Gauge, "ehr_chat_http_connections", "open connections to the public port"),
    MetricSpec::new(
        Counter,
        "ehr_chat_http_connections_throttled_total",
        "connections that waited because as many as may be were open",
    ),
    MetricSpec::new(Counter, "ehr_chat_http_accept_errors_total", "connections that could not be accepted"),
    MetricSpec::new(Counter, "ehr_chat_http_header_timeouts_total", "requests whose head did not arrive in time"),
    MetricSpec::new(Gauge, "ehr_chat_http_unsent_bytes", "bytes of large answers that are not on their way yet"),
    MetricSpec::new(
        Counter,
        "ehr_chat_http_unsent_rejected_total",
        "reads refused because too many of these bytes waited",
    )
    .with_label("of", &["caller", "process"]),
    MetricSpec::new(
        Counter,
        "ehr_chat_http_unsent_cut_total",
        "responses cut because clients left too many bytes unread in total",
    ),
    MetricSpec::new(
        Counter,
        "ehr_chat_http_late_requests_total",
        "requests refused because their answer took too long",
    ),
    MetricSpec::new(
        Counter,
        "ehr_chat_http_unread_responses_total",
        "answers that were cut because their clients did not read them",
    ),
    MetricSpec::new(Counter, "ehr_chat_rate_limited_total", "refused for asking too often")
        .with_label("kind", &["participant", "contact_sends", "service", "address", "failures", "no_token"]),
    MetricSpec::new(
        Counter,
        "ehr_chat_rate_limiter_resets_total",
        "times that all buckets of a kind were let go, to bound memory",
    )
    .with_label("kind", &["participant", "contact_sends", "service", "address", "failures", "no_token"]),
    MetricSpec::new(Histogram, "ehr_chat_send_batch_size", "sends in a transaction"),
    MetricSpec::new(Histogram, "ehr_chat_send_commit_duration_seconds", "how long the transaction took"),
    MetricSpec::new(Histogram, "ehr_chat_send_queue_wait_seconds", "how long the first of its sends had waited"),
    MetricSpec::new(Gauge, "ehr_chat_send_queue_depth", "sends that had to wait for the next transaction"),
    MetricSpec::new(Counter, "ehr_chat_send_queue_overflows_total", "sends refused because too many waited"),
    MetricSpec::new(Counter, "ehr_chat_sends_abandoned_total", "sends that waited and were not written")
        .with_label("cause", &["caller_gone", "too_late"]),
    MetricSpec::new(
        Counter,
        "ehr_chat_send_conversations_locked_total",
        "times that another transaction held a conversation",
    ),
    MetricSpec::new(
        Gauge,
        "ehr_chat_send_conversations_locked",
        "conversations that another transaction holds: their sends wait",
    ),
    MetricSpec::new(Counter, "ehr_chat_events_published_total", "events handed to Redis")
        .with_label("path", &["fast", "outbox"]),
    MetricSpec::new(Histogram, "ehr_chat_publish_batch_size", "events in a pipeline to Redis"),
    MetricSpec::new(Histogram, "ehr_chat_publish_duration_seconds", "how long Redis took for a pipeline of events"),
    MetricSpec::new(Gauge, "ehr_chat_publish_queue_depth", "committed events that wait in memory for Redis"),
    MetricSpec::new(Counter, "ehr_chat_publish_queue_overflows_total", "events that memory had no room for"),
    MetricSpec::new(Gauge, "ehr_chat_outbox_events", "events that wait in the outbox"),
    MetricSpec::new(Gauge, "ehr_chat_outbox_age_seconds", "age of the oldest of them"),
    MetricSpec::new(Gauge, "ehr_chat_outbox_catching_up", "1 while Redis does not take events"),
    MetricSpec::new(Gauge, "ehr_chat_outbox_failed", "rows of the outbox that cannot be rebuilt"),
    MetricSpec::new(
        Counter,
        "ehr_chat_outbox_failed_total",
        "rows of the outbox that failed because they cannot be rebuilt",
    )
    .with_label("reason", REASONS),
    MetricSpec::new(Gauge, "ehr_chat_publish_deferred", "conversations and nodes of Redis whose events are refused")
        .with_label("what", &["conversation", "node"]),
    MetricSpec::new(Counter, "ehr_chat_publish_refusals_total", "times that a conversation or a node was deferred")
        .with_label("what", &["conversation", "node"]),
    MetricSpec::new(
        Counter,
        "ehr_chat_publish_deferred_overflows_total",
        "refusals that found no room to be kept in mind",
    ),
    MetricSpec::new(
        Counter,
        "ehr_chat_publish_order_retries_total",
        "attempts to publish a message before its predecessor",
    ),
    MetricSpec::new(Counter, "ehr_chat_inbox_rows_published_total", "rows of inboxes handed to Redis"),
    MetricSpec::new(Counter, "ehr_chat_inbox_rows_failed_total", "rows of inboxes that were left out")
        .with_label("cause", &["redis", "unreadable"]),
    MetricSpec::new(
        Counter,
        "ehr_chat_outbox_confirm_overflows_total",
        "published batches that will be published once more",
    ),
    MetricSpec::new(Gauge, "ehr_chat_outbox_unconfirmed", "published batches whose rows wait for their deletion"),
    MetricSpec::new(
        Counter,
        "ehr_chat_stream_entries_unreadable_total",
        "stream entries that are no text or have an unknown format",
    )
    .with_label("stream", STREAMS),
    MetricSpec::new(
        Counter,
        "ehr_chat_redis_keys_moved_total",
        "keys under reserved names that had another type and were moved",
    )
    .with_label("key", &["event_log", RECEIPT_STREAM, AUDIT_STREAM, CONVERSATION_CHECK_STREAM, "presence", "revoked"]),
    MetricSpec::new(
        Counter,
        "ehr_chat_stream_consumers_removed_total",
        "consumers of dead instances that were removed from a stream's group",
    )
    .with_label("stream", STREAMS),
    MetricSpec::new(Counter, "ehr_chat_receipts_applied_total", "receipts from gateways"),
    MetricSpec::new(Counter, "ehr_chat_receipts_dropped_total", "receipts that could not be applied"),
    MetricSpec::new(Counter, "ehr_chat_audit_entries_total", "entries of the audit trail about reads and refusals"),
    MetricSpec::new(Histogram, "ehr_chat_audit_batch_size", "entries in a transaction"),
    MetricSpec::new(Histogram, "ehr_chat_audit_commit_duration_seconds", "how long the transaction took"),
    MetricSpec::new(Counter, "ehr_chat_audit_queue_overflows_total", "entries that found no room")
        .with_label("queue", &["reads", "denials"]),
    MetricSpec::new(Counter, "ehr_chat_audit_entries_lost_total", "refusals that were only counted"),
    MetricSpec::new(Counter, "ehr_chat_audit_socket_events_total", "entries from gateways"),
    MetricSpec::new(
        Counter,
        "ehr_chat_audit_socket_events_dropped_total",
        "entries from gateways that could not be read",
    ),
    MetricSpec::new(Counter, "ehr_chat_conversation_checks_total", "questions of gateways about who may know of whom"),
    MetricSpec::new(
        Counter,
        "ehr_chat_conversation_checks_dropped_total",
        "questions of gateways that were not answered",
    ),
    MetricSpec::new(Counter, "ehr_chat_content_decrypt_failures_total", "texts of messages that did not open")
        .with_label("cause", &["refused", "no_key", "plain"]),
    MetricSpec::new(Counter, "ehr_chat_database_connections_total", "connections to PostgreSQL opened"),
    MetricSpec::new(Gauge, "ehr_chat_database_connections", "connections of all classes")
        .with_label("state", &["in_use", "idle", "waiting"]),
    MetricSpec::new(Gauge, "ehr_chat_database_waiting", "uses that wait for a connection of their class")
        .with_label("class", &["send", "write", "read", "background", "watch"]),
    MetricSpec::new(Counter, "ehr_chat_replica_reads_total", "histories and inboxes that the replica answered"),
    MetricSpec::new(Counter, "ehr_chat_replica_fallbacks_total", "those that the primary answered in its place")
        .with_label("reason", Fallback::LABELS),
    MetricSpec::new(
        Histogram,
        "ehr_chat_replica_wait_seconds",
        "from the commit of a read's audit entry until the replica showed it",
    ),
    MetricSpec::new(Gauge, "ehr_chat_replica_in_use", "1 while reads may go to a replica"),
    MetricSpec::new(Gauge, "ehr_chat_clock_offset_seconds", "how far this machine's clock is ahead of the database's"),
    MetricSpec::new(
        Gauge,
        "ehr_chat_database_commit_wait_seconds",
        "how long the oldest commit of this role waits for a synchronous standby",
    ),
    MetricSpec::new(Gauge, "ehr_chat_database_up", "1 when PostgreSQL answers"),
    MetricSpec::new(Gauge, "ehr_chat_redis_up", "1 when Redis answers"),
    MetricSpec::new(Gauge, "ehr_chat_revocations", "revocations that are known and whose tokens have not all ended"),
    MetricSpec::new(
        Counter,
        "ehr_chat_revocations_expired_total",
        "revocations removed because all their tokens have ended",
    ),
    MetricSpec::new(
        Gauge,
        "ehr_chat_revocation_copy_complete",
        "1 while Redis holds all revocations that are known here",
    ),
    MetricSpec::new(
        Counter,
        "ehr_chat_revocation_copies_total",
        "times that all revocations were written to Redis again",
    ),
    MetricSpec::new(Gauge, "ehr_chat_jwks_keys", "keys of the issuers that are known"),
    MetricSpec::new(Counter, "ehr_chat_jwks_refreshes_total", "times that an issuer's keys were read")
        .with_label("outcome", &["changed", "failed"]),
    LOG_LINES_DROPPED,
    SERVICE_READY,
    MetricSpec::new(Counter, "ehr_chat_trace_exports_total", "batches of spans for the collector")
        .with_label("outcome", &["sent", "failed"]),
];

/// Samples the gauges that are not updated by events.
pub(crate) fn collect(state: &AppState) {
    let (mut in_use, mut idle, mut waiting) = (0, 0, 0);
    for pool in state.store.pools() {
        (in_use, idle, waiting) = (in_use + pool.in_use, idle + pool.idle, waiting + pool.waiting);
        gauge!("ehr_chat_database_waiting", "class" => pool.class.name()).set(pool.waiting as f64);
    }
    for (name, count) in [("in_use", in_use), ("idle", idle), ("waiting", waiting)] {
        gauge!("ehr_chat_database_connections", "state" => name).set(count as f64);
    }
    gauge!("ehr_chat_database_up").set(f64::from(u8::from(state.database.is_up())));
    gauge!(SERVICE_READY.name).set(f64::from(u8::from(state.readiness().is_ok())));
    gauge!("ehr_chat_redis_up").set(f64::from(u8::from(state.redis.is_up())));
    gauge!("ehr_chat_publish_queue_depth").set(state.events.depth() as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_names_have_unit_suffix() {
        for MetricSpec { kind, name, .. } in METRICS {
            assert_eq!(*kind == Counter, name.ends_with("_total"), "{name}");
            assert!(name.starts_with("ehr_chat_"), "{name}");
            assert!(*kind != Histogram || name.ends_with("_seconds") || name.ends_with("_size"), "{name}");
        }
    }
}
