//! Events: how they are decrypted, and how long their logs live.

use std::time::Duration;

use shared::contract::redis::keys::MARKER_TTL_MILLIS;
use shared::kit::crypto::key_ring::{KeyRing, RELAY_KEYS, read_relay_keys, reject_weak_keys};
use shared::kit::env::mode::Mode;
use shared::kit::env::{Env, Setting};

const RELAY_UNSEALED: Setting = Setting::new(
    "RELAY_UNSEALED",
    Some("accept"),
    "accept or refuse: what becomes of messages in Redis that are not sealed; refuse once every API service has RELAY_KEYS",
);
const EVENT_LOG_TTL: Setting = Setting::new(
    "EVENT_LOG_TTL_SECONDS",
    Some("3600"),
    "60 to 604800: how long the log of a silent conversation lives; as the API service has it",
);
const RECONCILE_INTERVAL: Setting = Setting::new(
    "RECONCILE_INTERVAL_SECONDS",
    Some("15"),
    "1 to 3600, half of EVENT_LOG_TTL_SECONDS at most: between two comparisons with the logs",
);

/// Settings of events and their logs.
#[derive(Debug, Clone)]
pub struct EventConfig {
    /// Keys that decrypt events.
    pub relay_keys: Option<KeyRing>,
    /// Whether events that are not encrypted are rejected.
    pub rejects_unsealed: bool,
    /// How long the log of a silent conversation lives.
    pub log_ttl: Duration,
    /// Between two comparisons of the rooms with the logs.
    pub reconcile_interval: Duration,
}

impl EventConfig {
    pub(super) fn read(env: &mut Env, mode: Mode) -> Option<Self> {
        let relay_keys = read_relay_keys(env);
        let unsealed = env.read_checked(&RELAY_UNSEALED, |word: &String| match word.as_str() {
            "accept" | "refuse" => Ok(()),
            _ => Err("must be accept or refuse".to_owned()),
        });
        if unsealed.as_deref() == Some("refuse") && matches!(relay_keys, Some(None)) {
            env.add_error(&RELAY_UNSEALED, "refuse needs RELAY_KEYS");
        }
        reject_weak_keys(env, &RELAY_KEYS, relay_keys.as_ref().and_then(Option::as_ref), mode);
        let log_ttl = env.read_seconds(&EVENT_LOG_TTL, 60..=604_800);
        let reconcile_interval = env.read_seconds(&RECONCILE_INTERVAL, 1..=3600);
        Some(Self {
            relay_keys: relay_keys?,
            rejects_unsealed: unsealed? == "refuse",
            log_ttl: log_ttl?,
            reconcile_interval: reconcile_interval?,
        })
    }

    /// How long a log lives that holds no event yet. The gateway renews it every
    /// [`EventConfig::reconcile_interval`], so it lives for at least two of these.
    #[must_use]
    pub fn marker_ttl(&self) -> Duration {
        Duration::from_millis(MARKER_TTL_MILLIS).max(self.reconcile_interval * 2).min(self.log_ttl)
    }
}
