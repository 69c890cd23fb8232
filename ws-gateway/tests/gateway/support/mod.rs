//! Starts Redis and the gateway, speaks WebSocket and plain HTTP to it, publishes as the API service does.

mod client;
mod redis;

pub(crate) use client::{Client, http};
pub(crate) use redis::RedisServer;

use std::net::SocketAddr;
use std::time::Duration;

use shared::channel::Channel;
use shared::env::{Env, Secret};
use shared::participant::{Conversation, Kind};
use shared::shutdown::Shutdown;
use shared::token::{Role, issue};
use tokio::task::JoinHandle;
use ws_gateway::RunError;
use ws_gateway::config::Config;

pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// Longer than anything here takes, even on a busy machine: hitting it is a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const QUERY: &str = "location_id=loc1&user_id=doc123&contact_id=pat456";

/// A gateway in this process.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: Shutdown,
    pub(crate) running: JoinHandle<Result<(), RunError>>,
}

impl Gateway {
    /// Starts one and waits until it is ready.
    pub(crate) async fn start(redis: &RedisServer, settings: &[(&'static str, &'static str)]) -> Self {
        let gateway = Self::start_unready(redis, settings);
        while http(gateway.address, "GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n").await.0 != 200 {
            tokio::task::yield_now().await;
        }
        gateway
    }

    pub(crate) fn start_unready(redis: &RedisServer, settings: &[(&'static str, &'static str)]) -> Self {
        let settings = settings.to_vec();
        let url = redis.url();
        let config = Config::read(Env::from_fn(move |name| match name {
            "REDIS_URL" => Some(url.clone()),
            "JWT_SECRET" => Some(SECRET.to_owned()),
            "ADMIN_ADDR" => Some("127.0.0.1:0".to_owned()),
            "REDIS_TIMEOUT_SECONDS" => Some("1".to_owned()),
            name => settings.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()),
        }))
        .unwrap();
        let listener = shared::net::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let running = tokio::spawn(ws_gateway::run(config, listener, shutdown.clone()));
        Self { address, shutdown, running }
    }
}

pub(crate) fn token_for(subject: &str, kind: Option<Kind>, seconds: u64) -> String {
    let secret: Secret = SECRET.parse().unwrap();
    let role = kind.map_or(Role::Service, Role::Person);
    let locations = ["loc1".parse().unwrap(), "loc2".parse().unwrap()];
    issue(&secret, &subject.parse().unwrap(), role, &locations, Duration::from_secs(seconds)).unwrap()
}

pub(crate) fn doctor() -> String {
    token_for("doc123", Some(Kind::User), 3600)
}

pub(crate) fn patient() -> String {
    token_for("pat456", Some(Kind::Contact), 3600)
}

pub(crate) fn service() -> String {
    token_for("bot", None, 3600)
}

/// The conversation of `user` and `contact`.
pub(crate) fn conversation(location: &str, user: &str, contact: &str) -> Conversation {
    let (user, contact) = (format!("user:{user}").parse().unwrap(), format!("contact:{contact}").parse().unwrap());
    Conversation::new(location.parse().unwrap(), user, contact).unwrap()
}

/// The channel of [`QUERY`].
pub(crate) fn channel() -> Channel {
    Channel::from(&conversation("loc1", "doc123", "pat456"))
}
