//! Settings of the event log that Redis keeps per conversation.

use shared::kit::env::{Env, Setting};

pub(crate) const EVENT_LOG_LENGTH: Setting = Setting {
    name: "EVENT_LOG_LENGTH",
    default: Some("128"),
    help: "events a conversation's log in Redis keeps for sockets that come back, 1 to 10000",
};
pub(crate) const EVENT_LOG_TTL_SECONDS: Setting = Setting {
    name: "EVENT_LOG_TTL_SECONDS",
    default: Some("3600"),
    help: "how long a quiet conversation's log stays in Redis, in seconds, 60 to 604800",
};

/// Bounds of an event log.
#[derive(Debug, Clone, Copy)]
pub struct EventLogConfig {
    /// Maximum number of events.
    pub length: u32,
    /// Lifetime after the last event.
    pub ttl_millis: u32,
}

/// Reads both bounds.
pub(crate) fn read(env: &mut Env) -> Option<EventLogConfig> {
    let length = env.read_number(&EVENT_LOG_LENGTH, 1..=10_000);
    let ttl = env.read_number::<u32>(&EVENT_LOG_TTL_SECONDS, 60..=604_800);
    Some(EventLogConfig { length: length?, ttl_millis: ttl? * 1_000 })
}
