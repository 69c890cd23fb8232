//! Ports, origins and the handshake.

use std::net::SocketAddr;
use std::time::Duration;

use shared::contract::http::allowed_origins::AllowedOrigins;
use shared::contract::http::request::{TRUSTED_PROXIES, TrustedProxies};
use shared::kit::env::mode::Mode;
use shared::kit::env::{Env, Setting};

const LISTEN_ADDR: Setting = Setting::new("LISTEN_ADDR", Some("127.0.0.1:8082"), "address and port for clients");
pub(super) const ADMIN_ADDR: Setting = Setting::new(
    "ADMIN_ADDR",
    Some("127.0.0.1:9082"),
    "address and port for /metrics, /healthz, /readyz; keep it private",
);
const HANDSHAKE_TIMEOUT: Setting =
    Setting::new("HANDSHAKE_TIMEOUT_SECONDS", Some("10"), "1 to 300: from connecting to an answered handshake");
const MAX_SOCKETS: Setting =
    Setting::new("MAX_SOCKETS", Some("50000"), "1 to 1000000: sockets at a time; more are refused (503)");

/// The two ports, and what a handshake needs.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// The public port.
    pub listen_addr: SocketAddr,
    /// Metrics and health; never public.
    pub admin_addr: SocketAddr,
    /// Proxies whose `X-Forwarded-*` and `traceparent` headers are trusted.
    pub trusted_proxies: TrustedProxies,
    /// Origins whose pages may open sockets.
    pub origins: AllowedOrigins,
    /// From the accepted connection to the answered handshake.
    pub handshake_timeout: Duration,
    /// Open sockets of this gateway.
    pub max_sockets: usize,
}

impl HttpConfig {
    pub(super) fn read(env: &mut Env, mode: Mode) -> Option<Self> {
        let listen_addr = env.read(&LISTEN_ADDR);
        let admin_addr = env.read(&ADMIN_ADDR);
        let trusted_proxies = env.read(&TRUSTED_PROXIES);
        let origins = AllowedOrigins::read(env, mode);
        let handshake_timeout = env.read_seconds(&HANDSHAKE_TIMEOUT, 1..=300);
        let max_sockets = env.read_number(&MAX_SOCKETS, 1..=1_000_000);
        Some(Self {
            listen_addr: listen_addr?,
            admin_addr: admin_addr?,
            trusted_proxies: trusted_proxies?,
            origins: origins?,
            handshake_timeout: handshake_timeout?,
            max_sockets: max_sockets?,
        })
    }
}
