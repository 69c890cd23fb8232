//! The two ports, and how the service leaves them.

use std::net::SocketAddr;
use std::time::Duration;

use shared::kit::env::{Env, Setting};

pub(super) const LISTEN_ADDR: Setting =
    Setting { name: "LISTEN_ADDR", default: Some("127.0.0.1:8081"), help: "where requests are served: address:port" };
pub(super) const ADMIN_ADDR: Setting = Setting {
    name: "ADMIN_ADDR",
    default: Some("127.0.0.1:9081"),
    help: "where metrics and health are served, never to the public: address:port",
};
pub(super) const MAX_CONNECTIONS: Setting = Setting {
    name: "MAX_CONNECTIONS",
    default: Some("10000"),
    help: "connections to the public port at a time, 1 to 1000000; more wait",
};
pub(super) const DRAIN_SECONDS: Setting = Setting {
    name: "DRAIN_SECONDS",
    default: Some("2"),
    help: "how long a service that was asked to stop still serves while /readyz says 503, so that load balancers turn to \
           others first, in seconds, 0 to 600",
};
pub(super) const SHUTDOWN_TIMEOUT_SECONDS: Setting = Setting {
    name: "SHUTDOWN_TIMEOUT_SECONDS",
    default: Some("20"),
    help: "how long requests in flight may take after that, in seconds, 1 to 600",
};

/// The ports and their bounds.
#[derive(Debug, Clone)]
pub struct ListenConfig {
    /// Address of the public port.
    pub public: SocketAddr,
    /// Address of the admin port, which serves metrics and health.
    pub admin: SocketAddr,
    /// Open connections to the public port.
    pub max_connections: usize,
    /// How long the service still serves after a stop signal, so that load balancers turn to other instances.
    pub drain: Duration,
    /// How long requests in flight may take after that.
    pub shutdown_timeout: Duration,
}

/// Reads addresses and bounds.
pub(super) fn read(env: &mut Env) -> Option<ListenConfig> {
    let public = env.read(&LISTEN_ADDR);
    let admin = env.read(&ADMIN_ADDR);
    let max_connections = env.read_number::<usize>(&MAX_CONNECTIONS, 1..=1_000_000);
    let drain = env.read_seconds(&DRAIN_SECONDS, 0..=600);
    let shutdown_timeout = env.read_seconds(&SHUTDOWN_TIMEOUT_SECONDS, 1..=600);
    Some(ListenConfig {
        public: public?,
        admin: admin?,
        max_connections: max_connections?,
        drain: drain?,
        shutdown_timeout: shutdown_timeout?,
    })
}
