//! The servers that take messages: our API service, with and without HAProxy in front, and its baselines.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::backends::Backends;
use crate::gateway_targets::{forget_logs, open_logs};
use crate::participants::{Pair, address_of};
use crate::server::{Cpu, Server, binaries};

/// Keys of a measurement.
const CONTENT_KEYS: &str = "bench-1:YmVuY2htYXJrLWJlbmNobWFyay1iZW5jaG1hcmstMzI=";
const RELAY_KEYS: &str = "bench-1:cmVsYXktcmVsYXktcmVsYXktcmVsYXktcmVsYXktMzI=";

/// One kind of server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ApiTarget {
    /// Our API service, as it was built with this program.
    Ours,
    /// The same, in conversations without sockets for a while: their events have no receiver.
    OursNoSubscribers,
    /// The same, with content encrypted in PostgreSQL, in a database of its own there, and on its way through Redis.
    OursEncrypted,
    /// The same, each message the first one of its conversation.
    OursFirstMessages,
    /// Another build of it, to compare with.
    OtherBuild(PathBuf),
    /// The whole system, through HAProxy.
    OursBehindHaproxy,
    Baseline(String),
}

/// One of them, running, with what its CPU time is read from.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    servers: Vec<i32>,
    postgres: i32,
    redis: i32,
    /// Ends with this.
    _server: Option<Server>,
}

/// CPU time of all processes that take part, so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CpuTime {
    server: f64,
    postgres: f64,
    redis: f64,
}

impl ApiTarget {
    /// Whether it is a baseline, not this system.
    pub(crate) fn is_baseline(&self) -> bool {
        matches!(self, Self::Baseline(_))
    }

    /// As it is called in a table.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Ours => "**ours**".to_owned(),
            Self::OursNoSubscribers => "ours, no subscribers".to_owned(),
            Self::OursEncrypted => "ours, content encrypted".to_owned(),
            Self::OursFirstMessages => "ours, first messages".to_owned(),
            Self::OtherBuild(path) => format!("ours, {}", path.display()),
            Self::OursBehindHaproxy => "ours, through HAProxy".to_owned(),
            Self::Baseline(name) => name.clone(),
        }
    }

    /// Starts it, for sends to these pairs. `system` is the whole system, which runs already; its backends are all writers'
    /// backends.
    pub(crate) fn run(&self, system: &Backends, pairs: &[Pair]) -> Result<Running> {
        let env = system.env();
        forget_logs(system)?;
        if *self != Self::OursNoSubscribers {
            open_logs(system, pairs)?;
        }
        let (address, servers, server) = match self {
            Self::Ours
            | Self::OursNoSubscribers
            | Self::OursEncrypted
            | Self::OursFirstMessages
            | Self::OtherBuild(_) => {
                let own = binaries()?.join("api-service");
                let binary = if let Self::OtherBuild(path) = self { path } else { &own };
                let server = match self {
                    Self::OursEncrypted => {
                        let database = system.database("encrypted", binary)?;
                        let keys = [("CONTENT_KEYS", CONTENT_KEYS), ("RELAY_KEYS", RELAY_KEYS)];
                        Server::of_ours(binary, system, &[&keys[..], &[("DATABASE_URL", &database)]].concat())?
                    }
                    _ => Server::of_ours(binary, system, &[])?,
                };
                (server.address, vec![server.pid()], Some(server))
            }
            Self::OursBehindHaproxy => {
                let servers = env.haproxy_pid.into_iter().chain(env.api_pids.iter().copied()).collect();
                (address_of(&env.base_url)?, servers, None)
            }
            Self::Baseline(name) => {
                let server = Server::baseline(name, system, &[])?;
                (server.address, vec![server.pid()], Some(server))
            }
        };
        Ok(Running { address, servers, postgres: system.postgres_pid, redis: system.redis_pid, _server: server })
    }
}

impl Running {
    pub(crate) fn spent(&self) -> Result<CpuTime> {
        let seconds = |pid: &i32| Cpu::of(*pid).map(Cpu::seconds).context("a server is gone");
        Ok(CpuTime {
            server: self.servers.iter().map(seconds).sum::<Result<f64>>()?,
            postgres: seconds(&self.postgres)?,
            redis: seconds(&self.redis)?,
        })
    }
}

impl CpuTime {
    /// Microseconds a request since `earlier`: of the server, of PostgreSQL, of Redis.
    pub(crate) fn micros_a_request(self, earlier: Self, requests: u64) -> [f64; 3] {
        let each = |now: f64, then: f64| (now - then) * 1e6 / requests as f64;
        [each(self.server, earlier.server), each(self.postgres, earlier.postgres), each(self.redis, earlier.redis)]
    }
}
