//! Starts Redis and the gateway, speaks WebSocket and HTTP to it, and publishes as the API service does.

mod client;
mod redis;

pub(crate) use client::{Client, http};
pub(crate) use redis::RedisServer;

use std::net::SocketAddr;
use std::process::{Child, Command};
use std::time::Duration;

use shared::contract::participant::{Conversation, ParticipantKind};
use shared::contract::redis::keys::Channel;
use shared::contract::token::{Role, issue};
use shared::kit::env::{Env, Secret};
use shared::kit::shutdown::Shutdown;
use tokio::task::JoinHandle;
use ws_gateway::RunError;
use ws_gateway::config::Config;

pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// Longer than anything takes here, even on a busy machine. Reaching it is a failure.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(30);
pub(crate) const QUERY: &str = "location_id=loc1&user_id=doc123&contact_id=pat456";

/// A gateway in this process.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: Shutdown,
    pub(crate) running: JoinHandle<Result<(), RunError>>,
}

impl Gateway {
    /// Starts a gateway and waits until it is ready.
    pub(crate) async fn start(redis: &RedisServer, settings: &[(&'static str, &'static str)]) -> Self {
        redis.confirm_revocations().await;
        let gateway = Self::start_unready(redis, settings);
        while http(gateway.address, "GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n").await.0 != 200 {
            tokio::task::yield_now().await;
        }
        gateway
    }

    pub(crate) fn start_unready(redis: &RedisServer, settings: &[(&'static str, &'static str)]) -> Self {
        Self::start_at(redis.url(), settings)
    }

    fn start_at(url: String, settings: &[(&'static str, &'static str)]) -> Self {
        let settings = settings.to_vec();
        let config = Config::read(Env::from_fn(move |name| match name {
            "REDIS_URL" => Some(url.clone()),
            "JWT_SECRET" => Some(SECRET.to_owned()),
            "MODE" => Some("development".to_owned()),
            "ADMIN_ADDR" => Some("127.0.0.1:0".to_owned()),
            "REDIS_TIMEOUT_SECONDS" => Some("1".to_owned()),
            name => settings.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()),
        }))
        .unwrap();
        let listener = shared::kit::net::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let running = tokio::spawn(ws_gateway::run(config, listener, shutdown.clone()));
        Self { address, shutdown, running }
    }
}

/// A gateway in a process of its own. It stops when the value is dropped.
pub(crate) struct GatewayProcess {
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
    process: Child,
}

impl GatewayProcess {
    /// Starts a gateway and waits until it is ready.
    pub(crate) async fn start(redis: &RedisServer, settings: &[(&str, &str)]) -> Self {
        redis.confirm_revocations().await;
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (address, admin) = (free(), free());
        let process = Command::new(env!("CARGO_BIN_EXE_ws-gateway"))
            .arg("serve")
            .env_clear()
            .envs([("REDIS_URL", redis.url()), ("JWT_SECRET", SECRET.to_owned()), ("LOG_LEVEL", "error".to_owned())])
            .env("MODE", "development")
            .envs([("LISTEN_ADDR", address.to_string()), ("ADMIN_ADDR", admin.to_string())])
            .envs(settings.iter().copied())
            .spawn()
            .unwrap();
        while tokio::net::TcpStream::connect(admin).await.is_err() {
            tokio::task::yield_now().await;
        }
        while http(admin, "GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n").await.0 != 200 {
            tokio::task::yield_now().await;
        }
        Self { address, admin, process }
    }

    /// Its memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    /// The value of a counter or gauge; 0 if there is none yet.
    pub(crate) async fn metric(&self, name: &str) -> usize {
        let (_, _, text) = http(self.admin, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }
}

impl Drop for GatewayProcess {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

pub(crate) fn token_for(subject: &str, kind: Option<ParticipantKind>, seconds: u64) -> String {
    let secret: Secret = SECRET.parse().unwrap();
    let role = kind.map_or(Role::Service, Role::Participant);
    let locations = ["loc1".parse().unwrap(), "loc2".parse().unwrap()];
    issue(&secret, &subject.parse().unwrap(), role, &locations, Duration::from_secs(seconds)).unwrap()
}

pub(crate) fn doctor() -> String {
    token_for("doc123", Some(ParticipantKind::User), 3600)
}

pub(crate) fn patient() -> String {
    token_for("pat456", Some(ParticipantKind::Contact), 3600)
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
