//! Connections to Redis: how long they wait, how often they retry, what they refuse to repeat.
//!
//! The client library's defaults wait for ever and repeat commands that must not be; nothing here does.

mod link;
mod resp;
mod slot_set;
mod slots;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
pub use fred::error::Error;
use fred::error::ErrorKind;
use fred::interfaces::{ClientLike, LuaInterface};
use fred::types::config::{Config, ReconnectPolicy, Server, ServerConfig, TlsConfig, TlsConnector, UnresponsiveConfig};
use fred::types::scripts::Script;
use fred::types::{Builder, ClusterHash, ConnectHandle, CustomCommand, FromValue, MultipleKeys, RespVersion, Value};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use shared::channel::Topology;
use shared::shutdown::Shutdown;
use shared::tls::{self, CaFile, NoAuthority};
use tokio::time::{Instant, sleep, timeout_at};

use link::Terms;
pub(crate) use link::{Ear, Heard, Link, LinkError, Outcome, command};
pub(crate) use slot_set::{SLOTS, SlotSet, slot_of};
pub(crate) use slots::Slots;

/// How often an idle connection is asked whether it is alive.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(1);
/// Commands that may wait for a connection; past it they would fail at once.
pub(crate) const QUEUED_COMMANDS: usize = 16 * 1024;
/// How often a command that was sent to the wrong node of a cluster is sent again.
const REDIRECTIONS: usize = 5;

/// How long the other nodes of a cluster have to say how they see it, once one has.
const OTHER_VIEWS: Duration = Duration::from_millis(100);

/// Ends a client's connections in an orderly way. One that cannot be reached needs no goodbye.
pub(crate) async fn say_goodbye(client: &Client) {
    let _unreachable = client.quit().await;
}

/// Replaces connections that were cut without a word. The library counts silence from the last command that it sent, so a
/// connection that is never idle would never be silent to it; and told to reconnect to a cluster, it keeps every
/// connection that has not failed. So all of them end with the task that owns them, and what waits there fails.
async fn watch(client: &Client, mut connections: ConnectHandle) {
    loop {
        sleep(HEARTBEAT).await;
        // A client that knows that it is cut off is on its way back already.
        if is_silent(client).await && client.is_connected() {
            tracing::warn!("redis is silent: connecting anew");
            connections.abort();
            let _aborted = connections.await;
            connections = client.connect();
        }
    }
}

/// Whether any server does not answer. In a cluster, connecting anew means to ask who the masters are now.
async fn is_silent(client: &Client) -> bool {
    let is_timeout = |pinged: Result<(), Error>| pinged.is_err_and(|error| *error.kind() == ErrorKind::Timeout);
    if !client.is_clustered() {
        return is_timeout(client.ping(None).await);
    }
    let nodes = client.active_connections().into_iter().map(|server| client.with_cluster_node(server));
    join_all(nodes.map(async |node| node.ping(None).await)).await.into_iter().any(is_timeout)
}

/// `redis://[[user]:password@]host[:port][/database]`, `redis-cluster://host:port[?node=host:port…]`, and both with
/// `rediss` for TLS. Never shows itself: it may hold a password.
#[derive(Clone)]
pub struct RedisUrl {
    config: Config,
    tls: bool,
}

impl RedisUrl {
    /// Whether the connection is to be encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }
}

impl FromStr for RedisUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
        let (tls, is_cluster) = match scheme {
            "redis" => (false, false),
            "rediss" => (true, false),
            "redis-cluster" => (false, true),
            "rediss-cluster" => (true, true),
            _ => return Err("must begin with redis://, rediss://, redis-cluster:// or rediss-cluster://"),
        };
        // TLS is ours to set up: the library would take this machine's authorities and no others.
        let plain = text.replacen("rediss", "redis", 1);
        let parse = if is_cluster { Config::from_url_clustered } else { Config::from_url_centralized };
        let config = parse(&plain).map_err(|_| "is not a URL of Redis")?;
        if config.server.hosts().iter().any(|server| server.host.is_empty()) {
            return Err("names no host");
        }
        Ok(Self { config, tls })
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Where Redis is, and how long to wait for it.
#[derive(Debug, Clone)]
pub struct Redis {
    config: Config,
    terms: Terms,
    /// Nodes of the cluster that were there when it was last looked at: those of the URL may be gone by now.
    nodes: Arc<Mutex<Vec<Server>>>,
}

impl Redis {
    /// No connection yet. With TLS, servers must prove their names to `ca`, or else to this system's authorities.
    ///
    /// # Errors
    /// [`NoAuthority`]
    pub fn new(url: RedisUrl, ca: Option<&CaFile>, timeout: Duration) -> Result<Self, NoAuthority> {
        let mut config = url.config;
        config.version = RespVersion::RESP3;
        let (username, password) = (config.username.clone(), config.password.clone());
        let mut terms = Terms { username, password, tls: None, timeout };
        if url.tls {
            let tls = tls::client_config(ca)?;
            terms.tls = Some(Arc::new(tls.clone()).into());
            config.tls = Some(TlsConfig::from(TlsConnector::from(tls)));
        }
        Ok(Self { config, terms, nodes: Arc::default() })
    }

    /// What Redis is.
    #[must_use]
    pub fn topology(&self) -> Topology {
        if self.config.server.is_clustered() { Topology::Cluster } else { Topology::Single }
    }

    /// How long a command may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.terms.timeout
    }

    fn builder(&self, config: Config) -> Builder {
        let mut builder = Builder::from_config(config);
        builder.with_performance_config(|performance| {
            performance.default_command_timeout = self.terms.timeout;
        });
        builder.with_connection_config(|connection| {
            connection.connection_timeout = self.terms.timeout;
            connection.internal_command_timeout = self.terms.timeout;
            // A command in flight when the connection breaks may have run: who sent it decides whether it may run twice.
            connection.max_command_attempts = 1;
            // Asking another node (`ASK`), the library takes the next answer on that connection for its own, whosever it
            // is: one conversation's log would be told to another. It learns the new map all the same, and `redirected`
            // follows.
            connection.max_redirections = 0;
            connection.cluster_cache_update_delay = Duration::ZERO;
            connection.max_command_buffer_len = QUEUED_COMMANDS;
            connection.unresponsive =
                UnresponsiveConfig { max_timeout: Some(self.terms.timeout), interval: self.terms.timeout / 4 };
            connection.tcp.nodelay = Some(true);
            // What the kernel cannot deliver for so long ends the connection, however busy it is.
            connection.tcp.user_timeout = Some(self.terms.timeout);
        });
        builder
    }

    /// The client for commands. It connects by itself, again and again, until it is told to quit; commands fail meanwhile.
    ///
    /// # Errors
    /// When the client library refuses its configuration.
    pub fn commands(&self, shutdown: &Shutdown) -> Result<Client, Error> {
        let mut builder = self.builder(self.config.clone());
        builder.with_config(|config| config.fail_fast = false);
        // Milliseconds; no end of attempts; the library adds jitter.
        builder.set_policy(ReconnectPolicy::new_exponential(0, 100, 2_000, 2));
        let client = builder.build()?;
        // End with `quit`; nobody needs to hear of it.
        let connections = client.connect();
        let pinged = client.clone();
        shutdown.spawn_until("redis watch", async move { watch(&pinged, connections).await });
        Ok(client)
    }

    /// The server that is not a cluster.
    pub(crate) fn only_server(&self) -> Option<Server> {
        self.config.server.hosts().into_iter().next()
    }

    /// A connection for subscriptions only, to one server. Never used for data.
    ///
    /// # Errors
    /// When it cannot be reached, or refuses us.
    pub(crate) async fn subscriber(&self, server: &Server) -> Result<(Link, Ear), LinkError> {
        link::connect(server, &self.terms).await
    }

    /// The map of the cluster. All nodes that are known are asked at once: one that does not answer must not use up the time of
    /// the others. Of those who answer soon the one that has seen the most elections is believed, since one that has just been
    /// cut off, or has stood still, does not know yet that it has a successor.
    ///
    /// # Errors
    /// When nobody answers who belongs to the cluster.
    pub(crate) async fn slots(&self) -> Result<Slots, Error> {
        let mut servers = self.config.server.hosts();
        servers.extend(self.nodes.lock().iter().cloned());
        servers.sort_unstable_by(|a, b| (&a.host, a.port).cmp(&(&b.host, b.port)));
        servers.dedup();
        let mut asked: FuturesUnordered<_> = servers.into_iter().map(|server| Box::pin(self.view_of(server))).collect();
        let mut newest: Option<(u64, Slots)> = None;
        let mut refused = Error::new(ErrorKind::Config, "no server");
        let mut until = Instant::now() + 2 * self.terms.timeout;
        while let Ok(Some(view)) = timeout_at(until, asked.next()).await {
            match view {
                Ok((epoch, slots)) => {
                    if newest.is_none() {
                        until = Instant::now() + OTHER_VIEWS;
                    }
                    if newest.as_ref().is_none_or(|(known, _)| *known < epoch) {
                        newest = Some((epoch, slots));
                    }
                }
                Err(error) => refused = error,
            }
        }
        let (_, slots) = newest.ok_or(refused)?;
        self.nodes.lock().clone_from(&slots.everybody);
        Ok(slots)
    }

    /// The map of the cluster as one node sees it, and how many elections that has seen.
    async fn view_of(&self, server: Server) -> Result<(u64, Slots), Error> {
        let node = self.node(centralized(server.clone())).await?;
        let ask = async |what: &str| {
            let command = CustomCommand::new_static("CLUSTER", ClusterHash::FirstKey, false);
            node.client.custom::<Value, _>(command, vec![what]).await
        };
        // One that is cut off from the others does not know who has taken over. With `cluster-require-full-coverage no` it
        // says so as well; what is `ok` there although slots are missing is to be believed.
        let state: String = ask("INFO").await?.convert()?;
        if !state.contains("cluster_state:ok") {
            return Err(Error::new(ErrorKind::Cluster, "the cluster is down"));
        }
        let epoch = state.lines().find_map(|line| line.strip_prefix("cluster_current_epoch:")?.trim().parse().ok());
        let map = ask("SLOTS").await?;
        let slots =
            Slots::read(&map, &server).ok_or_else(|| Error::new(ErrorKind::Protocol, "no map of the cluster"))?;
        Ok((epoch.unwrap_or_default(), slots))
    }

    async fn node(&self, server: ServerConfig) -> Result<Node, Error> {
        // No reconnect policy: one question, then it is done with.
        let client = self.builder(Config { server, ..self.config.clone() }).build()?;
        let task = client.connect();
        let node = Node { client, task };
        node.client.wait_for_connect().await.map_err(|error| match error.kind() {
            ErrorKind::IO | ErrorKind::Timeout | ErrorKind::Tls | ErrorKind::Canceled => error,
            kind => Error::new(kind.clone(), link::reason(error.details())),
        })?;
        Ok(node)
    }
}

fn centralized(server: Server) -> ServerConfig {
    ServerConfig::Centralized { server }
}

/// A client of one server, to ask it something.
struct Node {
    client: Client,
    /// Ends with the connection.
    task: ConnectHandle,
}

impl Drop for Node {
    fn drop(&mut self) {
        // The task owns the TCP connection, which may be half open: nothing to say goodbye to.
        self.task.abort();
    }
}

/// Does it, and again when it went to a node that does not serve its slot any more, and therefore was not done.
///
/// # Errors
/// As `command`.
pub(crate) async fn redirected<T, F>(command: impl Fn() -> F) -> Result<T, Error>
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

/// Runs a script on one key, or on keys that share a slot.
///
/// # Errors
/// As Redis has them.
pub(crate) async fn run<T: FromValue>(
    client: &Client,
    script: &Script,
    keys: impl Into<MultipleKeys> + Clone + Send,
    args: &[Value],
) -> Result<T, Error> {
    let answer: Value = redirected(|| async {
        let asked: Result<Value, Error> = client.evalsha(script.sha1().clone(), keys.clone(), args.to_vec()).await;
        match asked {
            // The node that was asked has never seen it, or has restarted since. Now it has.
            Err(error) if error.details().starts_with("NOSCRIPT") => {
                client.eval(script.lua().cloned().unwrap_or_default(), keys.clone(), args.to_vec()).await
            }
            done => done,
        }
    })
    .await?;
    answer.convert()
}

#[cfg(test)]
mod half_open_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_servers_and_clusters_are_accepted() {
        for (url, is_tls, topology) in [
            ("redis://localhost", false, Topology::Single),
            ("redis://127.0.0.1:6380", false, Topology::Single),
            ("redis://:secret@redis:6379/2", false, Topology::Single),
            ("rediss://:secret@redis", true, Topology::Single),
            ("redis-cluster://user:secret@a:1?node=b:2&node=c:3", false, Topology::Cluster),
            ("rediss-cluster://a:1", true, Topology::Cluster),
        ] {
            let parsed: RedisUrl = url.parse().unwrap_or_else(|why| panic!("{url} {why}"));
            assert_eq!((parsed.is_tls(), parsed.config.server.is_clustered()), (is_tls, topology == Topology::Cluster));
        }
        let cluster: RedisUrl = "redis-cluster://a:1?node=b:2&node=c:3".parse().unwrap();
        assert_eq!(cluster.config.server.hosts().len(), 3);
    }

    #[test]
    fn other_urls_are_refused_and_none_shows_its_password() {
        for url in
            ["", "localhost:6379", "http://localhost", "redis-sentinel://localhost", "redis://", "redis://h:port"]
        {
            assert!(url.parse::<RedisUrl>().is_err(), "{url}");
        }
        let url: RedisUrl = "redis://:hunter2@redis".parse().unwrap();
        assert_eq!(format!("{url:?}"), "[redacted]");
    }
}
