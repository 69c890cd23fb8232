//! Clients of Redis that never hang: they reconnect for ever, and every command ends within a deadline.

use std::time::Duration;

use bytes::Bytes;
use fred::error::ErrorKind;
use fred::prelude::*;
use fred::types::config::{TlsConfig, TlsConnector, UnresponsiveConfig};
use fred::types::scripts::Script;
use fred::types::{ConnectHandle, RespVersion};
use futures_util::future::join_all;
use shared::channel::Topology;
use shared::env::Secret;
use shared::tls;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::config::RedisConfig;

/// Commands that may wait while the connection is busy or away.
const MAX_WAITING_COMMANDS: usize = 50_000;
/// How often a connection is asked whether it is alive.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Between two looks whether there is a connection at all.
const CONNECTING: Duration = Duration::from_millis(100);
/// How often a command that was sent to the wrong node of a cluster is sent again.
const REDIRECTIONS: usize = 5;

/// What a URL asks for. TLS is ours to set up: the library would take this machine's authorities and no others.
fn parse(url: &Secret) -> Result<(Config, bool), &'static str> {
    let (scheme, place) = url.expose().split_once("://").unwrap_or_default();
    let (is_tls, is_cluster) = match scheme {
        "redis" => (false, false),
        "rediss" => (true, false),
        "redis-cluster" => (false, true),
        "rediss-cluster" => (true, true),
        _ => return Err("must begin with redis://, rediss://, redis-cluster:// or rediss-cluster://"),
    };
    let parse = if is_cluster { Config::from_url_clustered } else { Config::from_url_centralized };
    let config = parse(&format!("redis://{place}")).map_err(|_| "is not a URL of Redis")?;
    if config.server.hosts().iter().any(|server| server.host.is_empty()) {
        return Err("names no host");
    }
    Ok((config, is_tls))
}

/// Whether a URL is one of Redis, and if so, whether it asks for TLS.
///
/// # Errors
/// What is wrong with it.
pub fn is_tls(url: &Secret) -> Result<bool, &'static str> {
    parse(url).map(|(_, is_tls)| is_tls)
}

/// What Redis is, by its URL.
///
/// # Errors
/// What is wrong with it.
pub fn topology(url: &Secret) -> Result<Topology, &'static str> {
    let (config, _) = parse(url)?;
    Ok(if config.server.is_clustered() { Topology::Cluster } else { Topology::Single })
}

/// A client, and the task that owns its connections. Both end when the client is told to quit.
pub struct Connected {
    /// What asks.
    pub client: Client,
    connections: ConnectHandle,
}

impl Connected {
    /// Lets go of all connections and makes new ones; what waits for an answer fails. Told to reconnect to a cluster, the
    /// library keeps every connection that has not failed, and one that was cut without a word never does.
    ///
    /// Does nothing when the client knows that it is cut off: it is on its way back already.
    pub async fn renew(&mut self) {
        if self.client.is_connected() {
            self.connections.abort();
            let _aborted = (&mut self.connections).await;
            self.connections = self.client.connect();
        }
    }
}

/// A client that connects in the background: Redis may come later, or go and come back.
/// A command fails after `command_timeout`, connected or not.
///
/// # Errors
/// When the URL is not one of Redis, or wants TLS where nobody vouches for servers.
pub fn client(redis: &RedisConfig, command_timeout: Duration) -> Result<Connected, crate::ServeError> {
    let (mut config, is_tls) = parse(&redis.url)?;
    if is_tls {
        config.tls = Some(TlsConfig::from(TlsConnector::from(tls::client_config(redis.ca.as_ref())?)));
    }
    config.fail_fast = false;
    config.version = RespVersion::RESP3;
    let client = Builder::from_config(config)
        .with_performance_config(|performance| performance.default_command_timeout = command_timeout)
        .with_connection_config(|connection| {
            connection.connection_timeout = Duration::from_secs(2);
            connection.internal_command_timeout = Duration::from_secs(2);
            connection.max_command_buffer_len = MAX_WAITING_COMMANDS;
            // A command sent twice may work twice.
            connection.max_command_attempts = 1;
            // Asking another node (`ASK`), the library takes the next answer on that connection for its own, whosever
            // it is. It learns the new map all the same, and `redirected` follows.
            connection.max_redirections = 0;
            connection.cluster_cache_update_delay = Duration::ZERO;
            // What the kernel cannot deliver for so long ends the connection, however busy it is.
            connection.tcp.user_timeout = Some(command_timeout);
            connection.unresponsive =
                UnresponsiveConfig { max_timeout: Some(command_timeout), interval: Duration::from_millis(500) };
        })
        .set_policy(ReconnectPolicy::new_exponential(0, 50, 1_000, 2))
        .build()?;
    // Ends with the client.
    drop(client.on_error(|(error, server)| async move {
        let server = server.map(|server| server.to_string());
        tracing::warn!(error = error.details(), server, "no connection to Redis");
        Ok(())
    }));
    let connections = client.connect();
    Ok(Connected { client, connections })
}

/// What is known of Redis.
#[derive(Debug, Clone, Copy)]
pub struct Health {
    /// Counts up with every new connection. What an old one was given may be lost: a Redis that died has a successor that
    /// had not heard of it yet, or comes back with what it had written to disk.
    pub connection: u64,
    /// When the newest of them was heard of: what was given to an old one was given before.
    pub since: Instant,
    /// All servers answered to something that was asked then, on the connections that they had been given everything on.
    pub proven: Instant,
}

/// Without a sign of life for so long, Redis counts as down.
const SILENT_FOR: Duration = Duration::from_secs(5);

/// How Redis is, for operators. Nothing depends on it.
#[derive(Clone)]
pub struct Pulse {
    client: Client,
    health: watch::Receiver<Health>,
}

impl Pulse {
    /// As [`watch()`] tells it.
    #[must_use]
    pub fn new(client: Client, health: watch::Receiver<Health>) -> Self {
        Self { client, health }
    }

    /// Whether it has answered within the last seconds.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.client.is_connected() && self.health.borrow().proven.elapsed() < SILENT_FOR
    }
}

/// Replaces connections that were cut without a word, and tells how Redis is. The library counts silence from the last
/// command that it sent, so a connection that is never idle would never be silent to it. Never returns.
pub async fn watch(mut redis: Connected, health: watch::Sender<Health>) {
    let mut reconnected = redis.client.reconnect_rx();
    // The first connections replace none. Those to the nodes of a cluster take a moment longer than the first of them.
    while !redis.client.is_connected() {
        sleep(CONNECTING).await;
    }
    sleep(CONNECTING).await;
    any(&mut reconnected);
    loop {
        sleep(HEARTBEAT).await;
        let asked = Instant::now();
        let pinged = ping_all(&redis.client).await;
        if any(&mut reconnected) {
            health.send_modify(|health| {
                health.connection += 1;
                health.since = asked;
            });
        } else if pinged.is_ok() {
            health.send_modify(|health| health.proven = asked);
        }
        if pinged.is_err_and(|error| *error.kind() == ErrorKind::Timeout) {
            tracing::warn!("Redis is silent: connecting anew");
            redis.renew().await;
        }
    }
}

/// Whether there was anything to hear.
fn any<T: Clone>(receiver: &mut Receiver<T>) -> bool {
    let mut heard = false;
    while !matches!(receiver.try_recv(), Err(TryRecvError::Empty | TryRecvError::Closed)) {
        heard = true;
    }
    heard
}

/// Asks every server for a sign of life; one that does not answer in time counts for all. In a cluster, connecting anew means
/// to ask who the masters are now.
async fn ping_all(client: &Client) -> Result<(), Error> {
    if !client.is_clustered() {
        return client.ping(None).await;
    }
    let nodes = client.active_connections().into_iter().map(|server| client.with_cluster_node(server));
    let pinged: Vec<Result<(), Error>> = join_all(nodes.map(async |node| node.ping(None).await)).await;
    let is_timeout = |pinged: &Result<(), Error>| matches!(pinged, Err(error) if *error.kind() == ErrorKind::Timeout);
    let worst = pinged.iter().position(is_timeout).or_else(|| pinged.iter().position(Result::is_err));
    match worst.and_then(|worst| pinged.into_iter().nth(worst)) {
        Some(failed) => failed,
        None if client.active_connections().is_empty() => Err(Error::new(ErrorKind::IO, "no node is connected")),
        None => Ok(()),
    }
}

/// Does it, and again when it went to a node that does not serve its slot any more, and therefore was not done.
///
/// # Errors
/// As `command`.
pub async fn redirected<T, F>(command: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    for _ in 1..REDIRECTIONS {
        match command().await {
            Err(error) if *error.kind() == ErrorKind::Routing => {}
            done => return done,
        }
    }
    command().await
}

/// Runs a script, wherever its keys are now.
///
/// # Errors
/// As Redis has them.
pub async fn run<T: FromValue>(
    client: &Client,
    script: &Script,
    keys: Vec<String>,
    args: Vec<Bytes>,
) -> Result<T, Error> {
    redirected(|| async {
        match client.evalsha(script.sha1().clone(), keys.clone(), args.clone()).await {
            // This node has never seen the script, or has restarted since. Now it has.
            Err(error) if error.details().starts_with("NOSCRIPT") => {
                client.eval(script.lua().cloned().unwrap_or_default(), keys.clone(), args.clone()).await
            }
            done => done,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        text.parse().unwrap_or_else(|never| match never {})
    }

    #[test]
    fn the_scheme_says_whether_it_is_a_cluster_and_whether_it_is_encrypted() {
        for (url, is_encrypted, expected) in [
            ("redis://:p@h:6380", false, Topology::Single),
            ("rediss://h", true, Topology::Single),
            ("redis-cluster://u:p@a:1?node=b:2", false, Topology::Cluster),
            ("rediss-cluster://a:1", true, Topology::Cluster),
        ] {
            assert_eq!((is_tls(&secret(url)), topology(&secret(url))), (Ok(is_encrypted), Ok(expected)), "{url}");
        }
        for url in ["", "h:6379", "http://h", "redis-sentinel://h", "redis://", "redis://h:port"] {
            assert!(is_tls(&secret(url)).is_err(), "{url}");
        }
    }
}
