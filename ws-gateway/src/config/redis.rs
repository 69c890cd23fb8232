//! The server that carries events, receipts and presence.

use std::time::Duration;

use shared::kit::env::{Env, Setting};
use shared::kit::net::tls::CaFile;
use shared::kit::redis::RedisUrl;

const REDIS_URL: Setting = Setting::new(
    "REDIS_URL",
    None,
    "redis://[[user]:password@]host[:port][/database], or redis-cluster://host:port[?node=host:port&…]; rediss and \
     rediss-cluster with TLS; as the API service has it",
);
const REDIS_CA_FILE: Setting = Setting::new(
    "REDIS_CA_FILE",
    Some(""),
    "CA bundle (PEM) that verifies the Redis certificate; needs rediss; default: system CAs",
);
const REDIS_TIMEOUT: Setting =
    Setting::new("REDIS_TIMEOUT_SECONDS", Some("3"), "1 to 60: how long Redis may be silent before it counts as lost");

/// How to reach Redis.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// The server, or nodes of the cluster.
    pub url: RedisUrl,
    /// CA bundle that verifies the certificate of Redis, in place of the system's.
    pub ca: Option<CaFile>,
    /// The longest a command, a connection attempt or a silent connection may last.
    pub timeout: Duration,
}

impl RedisConfig {
    pub(super) fn read(env: &mut Env) -> Option<Self> {
        let url = env.read(&REDIS_URL);
        let ca = env.read_optional(&REDIS_CA_FILE);
        let timeout = env.read_seconds(&REDIS_TIMEOUT, 1..=60);
        Some(Self { url: url?, ca: ca?, timeout: timeout? })
    }
}
