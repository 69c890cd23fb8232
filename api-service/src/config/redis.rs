//! How to reach Redis.

use shared::kit::env::{Env, Setting};
use shared::kit::net::tls::CaFile;
use shared::kit::redis::RedisUrl;

pub(super) const REDIS_URL: Setting = Setting {
    name: "REDIS_URL",
    default: None,
    help: "Redis 6.2 or newer: redis://[:password@]host:port, or a Redis Cluster, 7 or newer: \
           redis-cluster://[:password@]host:port[?node=host:port&…]; rediss and rediss-cluster with TLS",
};
pub(super) const REDIS_CA_FILE: Setting = Setting {
    name: "REDIS_CA_FILE",
    default: Some(""),
    help: "PEM file of the certificate authorities trusted for Redis, in place of the system's; with rediss only",
};

/// Redis, through which events and receipts pass.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// The URL; it may contain a password.
    pub url: RedisUrl,
    /// CA bundle that verifies the certificate, instead of the system's.
    pub ca: Option<CaFile>,
}

/// Reads the URL and the CA bundle, which needs a `rediss` URL.
pub(super) fn read(env: &mut Env) -> Option<RedisConfig> {
    let url: Option<RedisUrl> = env.read(&REDIS_URL);
    let is_tls = url.as_ref().is_none_or(RedisUrl::is_tls);
    let ca = match env.read_optional(&REDIS_CA_FILE)? {
        Some(_) if !is_tls => {
            env.add_error(&REDIS_CA_FILE, "is of no use while REDIS_URL does not begin with rediss");
            None
        }
        ca => Some(ca),
    };
    Some(RedisConfig { url: url?, ca: ca? })
}
