//! All metrics of this service, and the collection of those that are sampled.
//!
//! A test compares this list with docs/OPERATIONS.md.

use metrics::gauge;
use shared::channel::{AUDIT_STREAM, CONVERSATION_CHECK_STREAM, RECEIPT_STREAM};
use shared::telemetry::MetricKind::{Counter, Gauge, Histogram};
use shared::telemetry::{LOG_LINES_DROPPED, MetricSpec, PROCESS_START_TIME, SERVICE_READY};

use crate::http::endpoints::health;
use crate::state::AppState;
use crate::store::REASONS;

/// Streams that gateways write.
const STREAMS: &[&str] = &[RECEIPT_STREAM, AUDIT_STREAM, CONVERSATION_CHECK_STREAM];

/// All metrics.
pub const METRICS: &[MetricSpec] = &[
    MetricSpec::new(Counter, "http_requests_total", "requests answered").with_label("route", &[]),
    MetricSpec::new(Histogram, "http_request_seconds", "from the head of a request to its answer")
        .with_label("route", &[]),
    MetricSpec::new(Gauge, "http_requests_in_flight", "requests that are not answered yet"),
    MetricSpec::new(Counter, "http_requests_abandoned_total", "requests whose caller went away before the answer"),
    MetricSpec::new(Gauge, "http_connections", "open connections to the public port"),
    MetricSpec::new(
        Counter,
        "http_connections_held_back_total",
        "connections that waited because as many as may be were open",
    ),
    MetricSpec::new(Counter, "http_accept_errors_total", "connections that could not be accepted"),
    MetricSpec::new(Counter, "http_slow_heads_total", "requests whose head did not arrive in time"),
    MetricSpec::new(Gauge, "http_unsent_bytes", "bytes of large answers that are not on their way yet"),
    MetricSpec::new(Counter, "http_unsent_refused_total", "reads refused because too many of these bytes waited")
        .with_label("of", &["caller", "process"]),
    MetricSpec::new(
        Counter,
        "http_unsent_cut_total",
        "answers that nobody read, cut because all together were too many",
    ),
    MetricSpec::new(Counter, "http_late_requests_total", "requests refused because their answer took too long"),
    MetricSpec::new(
        Counter,
        "http_unread_answers_total",
        "answers that were cut because their clients did not read them",
    ),
    MetricSpec::new(Counter, "rate_limited_total", "refused for asking too often")
        .with_label("kind", &["participant", "contact_sends", "service", "address", "failures", "no_token"]),
    MetricSpec::new(
        Counter,
        "rate_limits_forgotten_total",
        "times that all buckets of a kind were let go, to bound memory",
    )
    .with_label("kind", &["participant", "contact_sends", "service", "address", "failures", "no_token"]),
    MetricSpec::new(Histogram, "send_batch_size", "sends in a transaction"),
    MetricSpec::new(Histogram, "send_commit_seconds", "how long the transaction took"),
    MetricSpec::new(Histogram, "send_wait_seconds", "how long the first of its sends had waited"),
    MetricSpec::new(Gauge, "send_queue_depth", "sends that had to wait for the next transaction"),
    MetricSpec::new(Counter, "send_queue_overflows_total", "sends refused because too many waited"),
    MetricSpec::new(Counter, "sends_given_up_total", "sends that waited and were not written")
        .with_label("cause", &["caller_gone", "too_late"]),
    MetricSpec::new(
        Counter,
        "send_conversations_set_aside_total",
        "times that another transaction held a conversation",
    ),
    MetricSpec::new(
        Gauge,
        "send_conversations_aside",
        "conversations that another transaction holds: their sends wait",
    ),
    MetricSpec::new(Counter, "events_published_total", "events handed to Redis")
        .with_label("path", &["fast", "outbox"]),
    MetricSpec::new(Histogram, "publish_batch_size", "events in a pipeline to Redis"),
    MetricSpec::new(Histogram, "publish_seconds", "how long Redis took for a pipeline of events"),
    MetricSpec::new(Gauge, "publish_queue_depth", "committed events that wait in memory for Redis"),
    MetricSpec::new(Counter, "publish_queue_overflows_total", "events that memory had no room for"),
    MetricSpec::new(Gauge, "outbox_events", "events that wait in the outbox"),
    MetricSpec::new(Gauge, "outbox_age_seconds", "age of the oldest of them"),
    MetricSpec::new(Gauge, "outbox_behind", "1 while Redis does not take events"),
    MetricSpec::new(Gauge, "outbox_failed", "rows of the outbox that cannot be rebuilt"),
    MetricSpec::new(
        Counter,
        "outbox_failed_total",
        "rows of the outbox that were set aside because they cannot be rebuilt",
    )
    .with_label("reason", REASONS),
    MetricSpec::new(Gauge, "publish_set_aside", "conversations and nodes of Redis whose events are refused")
        .with_label("what", &["conversation", "node"]),
    MetricSpec::new(Counter, "publish_refusals_total", "times that a conversation or a node was set aside")
        .with_label("what", &["conversation", "node"]),
    MetricSpec::new(Counter, "set_aside_overflows_total", "refusals that found no room to be kept in mind"),
    MetricSpec::new(Counter, "events_too_early_total", "attempts to publish a message before its predecessor"),
    MetricSpec::new(Counter, "inbox_rows_published_total", "rows of inboxes handed to Redis"),
    MetricSpec::new(Counter, "inbox_rows_failed_total", "rows of inboxes that were left out")
        .with_label("cause", &["redis", "unreadable"]),
    MetricSpec::new(
        Counter,
        "inbox_queue_overflows_total",
        "published batches whose inboxes the sweep of the outbox will tell",
    ),
    MetricSpec::new(Counter, "settle_queue_overflows_total", "published batches that will be published once more"),
    MetricSpec::new(Gauge, "outbox_settling", "published batches whose rows are kept for a moment"),
    MetricSpec::new(
        Counter,
        "stream_entries_unreadable_total",
        "entries of streams that were no text, or no entry of ours",
    )
    .with_label("stream", STREAMS),
    MetricSpec::new(
        Counter,
        "redis_keys_moved_total",
        "keys under names of ours that were of another type, and were moved",
    )
    .with_label("key", &["event_log", RECEIPT_STREAM, AUDIT_STREAM, CONVERSATION_CHECK_STREAM, "presence", "revoked"]),
    MetricSpec::new(
        Counter,
        "stream_consumers_removed_total",
        "consumers of dead instances that were removed from a stream's group",
    )
    .with_label("stream", STREAMS),
    MetricSpec::new(Counter, "receipts_applied_total", "receipts from gateways"),
    MetricSpec::new(Counter, "receipts_dropped_total", "receipts that could not be applied"),
    MetricSpec::new(Counter, "audit_entries_total", "entries of the audit trail about reads and refusals"),
    MetricSpec::new(Histogram, "audit_batch_size", "entries in a transaction"),
    MetricSpec::new(Histogram, "audit_commit_seconds", "how long the transaction took"),
    MetricSpec::new(Counter, "audit_queue_overflows_total", "entries that found no room")
        .with_label("queue", &["reads", "refusals"]),
    MetricSpec::new(Counter, "audit_entries_lost_total", "refusals that were only counted"),
    MetricSpec::new(Counter, "audit_socket_events_total", "entries from gateways"),
    MetricSpec::new(Counter, "audit_socket_events_dropped_total", "entries from gateways that could not be read"),
    MetricSpec::new(Counter, "presence_questions_total", "questions of gateways about who may know of whom"),
    MetricSpec::new(Counter, "presence_questions_dropped_total", "questions of gateways that were not answered"),
    MetricSpec::new(Counter, "content_unreadable_total", "texts of messages that did not open")
        .with_label("cause", &["refused", "no_key", "plain"]),
    MetricSpec::new(Counter, "database_connections_total", "connections to PostgreSQL opened"),
    MetricSpec::new(Gauge, "database_connections", "connections of all classes")
        .with_label("state", &["in_use", "idle", "waited_for"]),
    MetricSpec::new(Gauge, "database_waits", "uses that wait for a connection of their class")
        .with_label("class", &["send", "write", "read", "background", "watch"]),
    MetricSpec::new(Gauge, "clock_offset_seconds", "how far this machine's clock is ahead of the database's"),
    MetricSpec::new(Gauge, "database_up", "1 when PostgreSQL answers"),
    MetricSpec::new(Gauge, "redis_up", "1 when Redis answers"),
    MetricSpec::new(Gauge, "revocations", "revocations that are known and whose tokens have not all ended"),
    MetricSpec::new(Counter, "revocations_forgotten_total", "revocations removed because all their tokens have ended"),
    MetricSpec::new(Gauge, "revocation_copy_complete", "1 while Redis holds all revocations that are known here"),
    MetricSpec::new(Counter, "revocation_copies_total", "times that all revocations were written to Redis anew"),
    MetricSpec::new(Gauge, "token_keys", "keys of the issuers that are known"),
    MetricSpec::new(Counter, "token_key_readings_total", "times that an issuer's keys were read")
        .with_label("outcome", &["changed", "failed"]),
    LOG_LINES_DROPPED,
    SERVICE_READY,
    PROCESS_START_TIME,
    MetricSpec::new(Counter, "trace_exports_total", "batches of spans for the collector")
        .with_label("outcome", &["sent", "failed"]),
];

/// Samples the gauges that are not updated by events.
pub(crate) fn collect(state: &AppState) {
    let (mut in_use, mut idle, mut waiting) = (0, 0, 0);
    for pool in state.store.pools() {
        (in_use, idle, waiting) = (in_use + pool.in_use, idle + pool.idle, waiting + pool.waiting);
        gauge!("database_waits", "class" => pool.class.name()).set(pool.waiting as f64);
    }
    for (name, count) in [("in_use", in_use), ("idle", idle), ("waited_for", waiting)] {
        gauge!("database_connections", "state" => name).set(count as f64);
    }
    gauge!("database_up").set(f64::from(u8::from(state.database.is_up())));
    gauge!(SERVICE_READY.name).set(f64::from(u8::from(health::is_ready(state))));
    gauge!("redis_up").set(f64::from(u8::from(state.redis.is_up())));
    gauge!("publish_queue_depth").set(state.events.depth() as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_names_have_unit_suffix() {
        for MetricSpec { kind, name, .. } in METRICS {
            assert_eq!(*kind == Counter, name.ends_with("_total"), "{name}");
            assert!(*kind != Histogram || name.ends_with("_seconds") || name.ends_with("_size"), "{name}");
        }
    }
}
