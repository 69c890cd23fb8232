//! The server that carries events, receipts and presence.

use std::time::Duration;

use shared::kit::env::{Env, Setting};
use shared::kit::redis::RedisLink;

const REDIS_TIMEOUT: Setting =
    Setting::new("REDIS_TIMEOUT_SECONDS", Some("3"), "1 to 60: how long Redis may be silent before it counts as lost");

/// How to reach Redis.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// The server, or nodes of the cluster, and the authorities that verify them.
    pub link: RedisLink,
    /// The longest a command, a connection attempt or a silent connection may last.
    pub timeout: Duration,
}

impl RedisConfig {
    pub(super) fn read(env: &mut Env) -> Option<Self> {
        let link = RedisLink::read(env);
        let timeout = env.read_seconds(&REDIS_TIMEOUT, 1..=60);
        Some(Self { link: link?, timeout: timeout? })
    }
}
