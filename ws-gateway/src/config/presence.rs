//! How long participants count as online.

use std::time::Duration;

use shared::kit::env::{Env, Setting};

const PRESENCE_TTL: Setting = Setting::new(
    "PRESENCE_TTL_SECONDS",
    Some("30"),
    "3 to 3600, at least one and a half times REDIS_TIMEOUT_SECONDS: how long participants stay online at a \
     gateway that died",
);
const PRESENCE_GRACE: Setting = Setting::new(
    "PRESENCE_LINGER_SECONDS",
    Some("3"),
    "0 to 300: how long a participant stays online without a socket, so that a page can be reloaded",
);

/// Settings of presence.
#[derive(Debug, Clone)]
pub struct PresenceConfig {
    /// How long participants stay online at a gateway that no longer renews its lease.
    pub lease: Duration,
    /// How long a participant stays online without a socket.
    pub grace: Duration,
}

impl PresenceConfig {
    pub(super) fn read(env: &mut Env) -> Option<Self> {
        let lease = env.read_seconds(&PRESENCE_TTL, 3..=3600);
        let grace = env.read_seconds(&PRESENCE_GRACE, 0..=300);
        Some(Self { lease: lease?, grace: grace? })
    }
}
