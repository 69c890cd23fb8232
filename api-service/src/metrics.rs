//! All metrics of this service, and the collection of those that are sampled.
//!
//! A test compares this list with docs/OPERATIONS.md.

use metrics::gauge;
use shared::channel::{ACKS, AUDIT, QUESTIONS};
use shared::telemetry::Kind::{Counter, Gauge, Histogram};
use shared::telemetry::{LOG_LINES_DROPPED, Meter, READY, STARTED};

use crate::http::endpoints::health;
use crate::state::AppState;
use crate::store::REASONS;

/// Streams that gateways write.
const STREAMS: &[&str] = &[ACKS, AUDIT, QUESTIONS];

/// All metrics.
pub const METRICS: &[Meter] = &[
    Meter::new(Counter, "http_requests_total", "requests answered").by("route", &[]),
    Meter::new(Histogram, "http_request_seconds", "from the head of a request to its answer").by("route", &[]),
    Meter::new(Gauge, "http_requests_in_flight", "requests that are not answered yet"),
    Meter::new(Counter, "http_requests_abandoned_total", "requests whose caller went away before the answer"),
    Meter::new(Gauge, "http_connections", "open connections to the public port"),
    Meter::new(
        Counter,
        "http_connections_held_back_total",
        "connections that waited because as many as may be were open",
    ),
    Meter::new(Counter, "http_accept_errors_total", "connections that could not be accepted"),
    Meter::new(Counter, "http_slow_heads_total", "requests whose head did not arrive in time"),
    Meter::new(Gauge, "http_unsent_bytes", "bytes of large answers that are not on their way yet"),
    Meter::new(Counter, "http_unsent_refused_total", "reads refused because too many of these bytes waited")
        .by("of", &["caller", "process"]),
    Meter::new(Counter, "http_unsent_cut_total", "answers that nobody read, cut because all together were too many"),
    Meter::new(Counter, "http_late_requests_total", "requests refused because their answer took too long"),
    Meter::new(Counter, "http_unread_answers_total", "answers that were cut because their clients did not read them"),
    Meter::new(Counter, "rate_limited_total", "refused for asking too often")
        .by("kind", &["participant", "contact_sends", "service", "address", "failures", "no_token"]),
    Meter::new(Counter, "rate_limits_forgotten_total", "times that all buckets of a kind were let go, to bound memory")
        .by("kind", &["participant", "contact_sends", "service", "address", "failures", "no_token"]),
    Meter::new(Histogram, "send_batch_size", "sends in a transaction"),
    Meter::new(Histogram, "send_commit_seconds", "how long the transaction took"),
    Meter::new(Histogram, "send_wait_seconds", "how long the first of its sends had waited"),
    Meter::new(Gauge, "send_queue_depth", "sends that had to wait for the next transaction"),
    Meter::new(Counter, "send_queue_overflows_total", "sends refused because too many waited"),
    Meter::new(Counter, "sends_given_up_total", "sends that waited and were not written")
        .by("cause", &["caller_gone", "too_late"]),
    Meter::new(Counter, "send_conversations_set_aside_total", "times that another transaction held a conversation"),
    Meter::new(Gauge, "send_conversations_aside", "conversations that another transaction holds: their sends wait"),
    Meter::new(Counter, "events_published_total", "events handed to Redis").by("path", &["fast", "outbox"]),
    Meter::new(Histogram, "publish_batch_size", "events in a pipeline to Redis"),
    Meter::new(Histogram, "publish_seconds", "how long Redis took for a pipeline of events"),
    Meter::new(Gauge, "publish_queue_depth", "committed events that wait in memory for Redis"),
    Meter::new(Counter, "publish_queue_overflows_total", "events that memory had no room for"),
    Meter::new(Gauge, "outbox_events", "events that wait in the outbox"),
    Meter::new(Gauge, "outbox_age_seconds", "age of the oldest of them"),
    Meter::new(Gauge, "outbox_behind", "1 while Redis does not take events"),
    Meter::new(Gauge, "outbox_failed", "rows of the outbox that cannot be rebuilt"),
    Meter::new(Counter, "outbox_failed_total", "rows of the outbox that were set aside because they cannot be rebuilt")
        .by("reason", REASONS),
    Meter::new(Gauge, "publish_set_aside", "conversations and nodes of Redis whose events are refused")
        .by("what", &["conversation", "node"]),
    Meter::new(Counter, "publish_refusals_total", "times that a conversation or a node was set aside")
        .by("what", &["conversation", "node"]),
    Meter::new(Counter, "set_aside_overflows_total", "refusals that found no room to be kept in mind"),
    Meter::new(Counter, "events_too_early_total", "attempts to publish a message before its predecessor"),
    Meter::new(Counter, "inbox_rows_published_total", "rows of inboxes handed to Redis"),
    Meter::new(Counter, "inbox_rows_failed_total", "rows of inboxes that were left out")
        .by("cause", &["redis", "unreadable"]),
    Meter::new(
        Counter,
        "inbox_queue_overflows_total",
        "published batches whose inboxes the sweep of the outbox will tell",
    ),
    Meter::new(Counter, "settle_queue_overflows_total", "published batches that will be published once more"),
    Meter::new(Gauge, "outbox_settling", "published batches whose rows are kept for a moment"),
    Meter::new(Counter, "stream_entries_unreadable_total", "entries of streams that were no text, or no entry of ours")
        .by("stream", STREAMS),
    Meter::new(Counter, "redis_keys_moved_total", "keys under names of ours that were of another type, and were moved")
        .by("key", &["event_log", ACKS, AUDIT, QUESTIONS, "presence", "revoked"]),
    Meter::new(
        Counter,
        "stream_consumers_removed_total",
        "consumers of dead instances that were removed from a stream's group",
    )
    .by("stream", STREAMS),
    Meter::new(Counter, "receipts_applied_total", "receipts from gateways"),
    Meter::new(Counter, "receipts_dropped_total", "receipts that could not be applied"),
    Meter::new(Counter, "audit_entries_total", "entries of the audit trail about reads and refusals"),
    Meter::new(Histogram, "audit_batch_size", "entries in a transaction"),
    Meter::new(Histogram, "audit_commit_seconds", "how long the transaction took"),
    Meter::new(Counter, "audit_queue_overflows_total", "entries that found no room")
        .by("queue", &["reads", "refusals"]),
    Meter::new(Counter, "audit_entries_lost_total", "refusals that were only counted"),
    Meter::new(Counter, "audit_socket_events_total", "entries from gateways"),
    Meter::new(Counter, "audit_socket_events_dropped_total", "entries from gateways that could not be read"),
    Meter::new(Counter, "presence_questions_total", "questions of gateways about who may know of whom"),
    Meter::new(Counter, "presence_questions_dropped_total", "questions of gateways that were not answered"),
    Meter::new(Counter, "content_unreadable_total", "texts of messages that did not open")
        .by("cause", &["refused", "no_key", "plain"]),
    Meter::new(Counter, "database_connections_total", "connections to PostgreSQL opened"),
    Meter::new(Gauge, "database_connections", "connections of all classes")
        .by("state", &["in_use", "idle", "waited_for"]),
    Meter::new(Gauge, "database_waits", "uses that wait for a connection of their class")
        .by("class", &["send", "write", "read", "background", "watch"]),
    Meter::new(Gauge, "clock_offset_seconds", "how far this machine's clock is ahead of the database's"),
    Meter::new(Gauge, "database_up", "1 when PostgreSQL answers"),
    Meter::new(Gauge, "redis_up", "1 when Redis answers"),
    Meter::new(Gauge, "revocations", "revocations that are known and whose tokens have not all ended"),
    Meter::new(Counter, "revocations_forgotten_total", "revocations removed because all their tokens have ended"),
    Meter::new(Gauge, "revocation_copy_complete", "1 while Redis holds all revocations that are known here"),
    Meter::new(Counter, "revocation_copies_total", "times that all revocations were written to Redis anew"),
    Meter::new(Gauge, "token_keys", "keys of the issuers that are known"),
    Meter::new(Counter, "token_key_readings_total", "times that an issuer's keys were read")
        .by("outcome", &["changed", "failed"]),
    LOG_LINES_DROPPED,
    READY,
    STARTED,
    Meter::new(Counter, "trace_exports_total", "batches of spans for the collector").by("outcome", &["sent", "failed"]),
];

/// Samples the gauges that are not updated by events.
pub(crate) fn collect(state: &AppState) {
    let (mut in_use, mut idle, mut waited_for) = (0, 0, 0);
    for pool in state.store.pools() {
        (in_use, idle, waited_for) = (in_use + pool.in_use, idle + pool.idle, waited_for + pool.waited_for);
        gauge!("database_waits", "class" => pool.class.name()).set(pool.waited_for as f64);
    }
    for (name, count) in [("in_use", in_use), ("idle", idle), ("waited_for", waited_for)] {
        gauge!("database_connections", "state" => name).set(count as f64);
    }
    gauge!("database_up").set(f64::from(u8::from(state.database.is_up())));
    gauge!(READY.name).set(f64::from(u8::from(health::is_ready(state))));
    gauge!("redis_up").set(f64::from(u8::from(state.redis.is_up())));
    gauge!("publish_queue_depth").set(state.publisher.depth() as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_names_have_unit_suffix() {
        for Meter { kind, name, .. } in METRICS {
            assert_eq!(*kind == Counter, name.ends_with("_total"), "{name}");
            assert!(*kind != Histogram || name.ends_with("_seconds") || name.ends_with("_size"), "{name}");
        }
    }
}
