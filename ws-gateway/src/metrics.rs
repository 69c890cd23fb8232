//! Every metric of this service.
//!
//! A test compares this list with docs/operate/metrics.md.

use shared::kit::telemetry::exporter::MetricKind::{Counter, Gauge, Histogram};
use shared::kit::telemetry::exporter::{LOG_LINES_DROPPED, MetricSpec, SERVICE_READY};

const OUTCOMES: &[&str] = &[
    "accepted",
    "too_many_sockets",
    "rate_limited",
    "invalid",
    "unauthorized",
    "forbidden",
    "no_upgrade",
    "unavailable",
    "refused",
    "too_slow",
];
const CODES: &[&str] = &["1001", "1002", "1007", "1008", "1009", "4401", "4408", "4429", "peer", "gone"];

/// All metrics.
pub(crate) const METRICS: &[MetricSpec] = &[
    MetricSpec::new(Gauge, "ehr_chat_gateway_sockets", "open sockets"),
    MetricSpec::new(Counter, "ehr_chat_gateway_handshakes_total", "handshakes answered")
        .with_label("outcome", OUTCOMES),
    MetricSpec::new(
        Histogram,
        "ehr_chat_gateway_handshake_duration_seconds",
        "from the head of a handshake to its answer",
    ),
    MetricSpec::new(Gauge, "ehr_chat_gateway_handshakes_in_flight", "connections that are no sockets yet"),
    MetricSpec::new(Counter, "ehr_chat_gateway_sockets_closed_total", "sockets closed").with_label("code", CODES),
    MetricSpec::new(Counter, "ehr_chat_gateway_frames_sent_total", "frames sent"),
    MetricSpec::new(
        Histogram,
        "ehr_chat_gateway_delivery_latency_seconds",
        "from an event's place in its log to its frame in the kernel",
    ),
    MetricSpec::new(Gauge, "ehr_chat_gateway_redis_up", "1 while the live relay is up for all conversations"),
    MetricSpec::new(
        Gauge,
        "ehr_chat_gateway_redis_nodes_down",
        "servers that the live relay does not reach: masters, in a cluster",
    ),
    MetricSpec::new(
        Counter,
        "ehr_chat_gateway_redis_disconnects_total",
        "times that a connection of the live relay was cut",
    ),
    MetricSpec::new(Counter, "ehr_chat_gateway_backfills_total", "logs read again")
        .with_label("outcome", &["replayed", "resync", "failed"]),
    MetricSpec::new(
        Counter,
        "ehr_chat_gateway_replays_too_large_total",
        "replays that a participant's other sockets left no room for",
    ),
    MetricSpec::new(Counter, "ehr_chat_gateway_pubsub_gaps_total", "events that pub/sub lost")
        .with_label("detected_by", &["next_event", "reconciliation", "unsubscribed"]),
    MetricSpec::new(
        Gauge,
        "ehr_chat_gateway_revocations",
        "revocations that are known and whose tokens have not all ended",
    ),
    MetricSpec::new(Counter, "ehr_chat_gateway_slow_clients_total", "clients too slow"),
    MetricSpec::new(Counter, "ehr_chat_gateway_backfill_overflows_total", "rooms that had to read their log twice"),
    MetricSpec::new(
        Gauge,
        "ehr_chat_gateway_receipts_queue_depth",
        "ids of messages whose receipts no API service has yet",
    ),
    MetricSpec::new(Counter, "ehr_chat_gateway_receipts_total", "receipts on their way"),
    MetricSpec::new(Counter, "ehr_chat_gateway_receipts_retries_total", "receipts that Redis did not take at once"),
    MetricSpec::new(Counter, "ehr_chat_gateway_receipts_dropped_total", "receipts forgotten"),
    MetricSpec::new(
        Counter,
        "ehr_chat_gateway_receipts_repeated_total",
        "receipts sent again because Redis may have lost them",
    ),
    MetricSpec::new(
        Counter,
        "ehr_chat_gateway_receipts_unrepeatable_total",
        "receipts that a loss of Redis would take along: too many",
    ),
    MetricSpec::new(Counter, "ehr_chat_gateway_audit_entries_total", "entries of the audit trail on their way"),
    MetricSpec::new(Counter, "ehr_chat_gateway_audit_retries_total", "entries that Redis did not take at once"),
    MetricSpec::new(
        Counter,
        "ehr_chat_gateway_audit_overflows_total",
        "entries that found no room, and are only counted",
    ),
    MetricSpec::new(
        Counter,
        "ehr_chat_gateway_audit_repeated_total",
        "entries sent again because Redis may have lost them",
    ),
    MetricSpec::new(
        Counter,
        "ehr_chat_gateway_audit_unrepeatable_total",
        "entries that a loss of Redis would take along: too many",
    ),
    MetricSpec::new(
        Counter,
        "ehr_chat_gateway_untracked_deliveries_total",
        "messages whose delivery will not be proven",
    ),
    MetricSpec::new(Counter, "ehr_chat_gateway_typing_dropped_total", "notices of typing dropped"),
    MetricSpec::new(
        Gauge,
        "ehr_chat_gateway_presence_participants",
        "participants with sockets here, or in their grace period",
    ),
    MetricSpec::new(
        Counter,
        "ehr_chat_gateway_presence_changes_total",
        "people written down as come or gone, and those swept from dead gateways",
    )
    .with_label("change", &["joined", "left", "expired"]),
    MetricSpec::new(
        Counter,
        "ehr_chat_gateway_presence_retries_total",
        "commands about presence that Redis did not take at once",
    ),
    MetricSpec::new(
        Counter,
        "ehr_chat_gateway_conversation_checks_total",
        "questions whether a conversation exists, for the API service",
    ),
    MetricSpec::new(
        Counter,
        "ehr_chat_gateway_conversation_checks_retries_total",
        "questions that Redis did not take at once",
    ),
    MetricSpec::new(
        Counter,
        "ehr_chat_gateway_conversation_checks_dropped_total",
        "checks dropped: peers do not see each other's presence",
    ),
    MetricSpec::new(
        Counter,
        "ehr_chat_gateway_accept_errors_total",
        "connections of both ports that could not be accepted",
    ),
    MetricSpec::new(
        Counter,
        "ehr_chat_gateway_handshakes_throttled_total",
        "connections that waited because too many were under way",
    ),
    MetricSpec::new(Counter, "ehr_chat_rate_limited_total", "refused for asking too often").with_label(
        "kind",
        &[
            "handshakes",
            "handshakes_of_participant",
            "address",
            "failures",
            "no_token",
            "tokens",
            "sockets_of_participant",
            "sockets_of_address",
            "frames",
            "typing",
        ],
    ),
    MetricSpec::new(
        Counter,
        "ehr_chat_rate_limiter_resets_total",
        "times that all buckets of a kind were let go, to bound memory",
    )
    .with_label(
        "kind",
        &["handshakes", "handshakes_of_participant", "address", "failures", "no_token", "tokens", "typing"],
    ),
    MetricSpec::new(Counter, "ehr_chat_gateway_event_decrypt_failures_total", "events that could not be opened")
        .with_label("cause", &["unknown_key", "refused", "unsealed"]),
    MetricSpec::new(
        Counter,
        "ehr_chat_gateway_malformed_events_total",
        "what came on a channel or stood in a log and was no event",
    ),
    MetricSpec::new(Counter, "ehr_chat_redis_keys_moved_total", "keys of another type under our names, renamed")
        .with_label("key", &["event_log", "presence"]),
    MetricSpec::new(Gauge, "ehr_chat_jwks_keys", "keys of the issuers that are known"),
    MetricSpec::new(Counter, "ehr_chat_jwks_refreshes_total", "times that an issuer's keys were read")
        .with_label("outcome", &["changed", "failed"]),
    LOG_LINES_DROPPED,
    SERVICE_READY,
    MetricSpec::new(Counter, "ehr_chat_trace_exports_total", "batches of spans for the collector")
        .with_label("outcome", &["sent", "failed"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_names_follow_prometheus_conventions() {
        for MetricSpec { kind, name, .. } in METRICS {
            assert_eq!(*kind == Counter, name.ends_with("_total"), "{name}");
            assert!(name.starts_with("ehr_chat_"), "{name}");
            assert!(*kind != Histogram || name.ends_with("_seconds") || name.ends_with("_size"), "{name}");
        }
    }
}
