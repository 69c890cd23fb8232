//! Connections to Redis, their timeouts and their retries.
//!
//! The client library's defaults wait without a limit and repeat commands. These connections do neither.

use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
pub use fred::error::Error;
use fred::error::ErrorKind;
use fred::interfaces::ClientLike;
use fred::types::config::{Config, Server, ServerConfig, TlsConfig, TlsConnector, UnresponsiveConfig};
use fred::types::{Builder, ClusterHash, ConnectHandle, CustomCommand, RespVersion, Value};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use shared::kit::net::tls::{self, CaError, CaFile};
use shared::kit::redis::ClientOptions;
use shared::kit::redis::Topology;
pub use shared::kit::redis::{RedisNodes, RedisUrl};
use shared::kit::shutdown::Shutdown;
use tokio::time::{Instant, timeout_at};

use super::subscriber_connection::{self, ConnectOptions, ConnectionError, SubscriberReader, SubscriberWriter};
pub(crate) use shared::kit::redis::{SLOT_COUNT, SlotMap, slot_of};

/// Between two heartbeats of an idle connection.
pub(crate) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// How long to wait for the other nodes' slot maps after the first.
const OTHER_VIEWS_TIMEOUT: Duration = Duration::from_millis(100);

/// Addresses, credentials and timeouts.
#[derive(Clone)]
pub struct RedisConnector {
    config: Config,
    options: ConnectOptions,
    settings: ClientOptions,
    /// Nodes of the last slot map. Those of the URL may be gone.
    nodes: Arc<Mutex<Vec<Server>>>,
}

impl RedisConnector {
    /// Connects nothing yet. With TLS, servers are verified against `ca`, or the system's CAs.
    ///
    /// # Errors
    /// [`NoAuthority`]
    pub fn new(url: &RedisUrl, ca: Option<&CaFile>, timeout: Duration) -> Result<Self, CaError> {
        let settings = ClientOptions::new(url, ca, timeout)?;
        let mut config = url.config().clone();
        config.version = RespVersion::RESP3;
        let (username, password) = (config.username.clone(), config.password.clone());
        let mut options = ConnectOptions { username, password, tls: None, timeout };
        if url.is_tls() {
            let tls = tls::client_config(ca)?;
            options.tls = Some(Arc::new(tls.clone()).into());
            config.tls = Some(TlsConfig::from(TlsConnector::from(tls)));
        }
        Ok(Self { config, options, settings, nodes: Arc::default() })
    }

    /// A single server or a cluster.
    #[must_use]
    pub fn topology(&self) -> Topology {
        if self.config.server.is_clustered() { Topology::Cluster } else { Topology::Single }
    }

    /// The longest a command may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.options.timeout
    }

    fn builder(&self, config: Config) -> Builder {
        let mut builder = Builder::from_config(config);
        builder.with_performance_config(|performance| {
            performance.default_command_timeout = self.options.timeout;
        });
        builder.with_connection_config(|connection| {
            connection.connection_timeout = self.options.timeout;
            connection.internal_command_timeout = self.options.timeout;
            // A command that was in flight when the connection failed may have run. Its caller decides whether to
            // repeat it.
            connection.max_command_attempts = 1;
            connection.unresponsive =
                UnresponsiveConfig { max_timeout: Some(self.options.timeout), interval: self.options.timeout / 4 };
            connection.tcp.nodelay = Some(true);
            // Ends a connection with undelivered data after this time, however busy it is.
            connection.tcp.user_timeout = Some(self.options.timeout);
        });
        builder
    }

    /// Connections for commands, one per master. They reconnect until `shutdown`. Commands fail in the meantime,
    /// independently for each master.
    ///
    /// # Errors
    /// If the client library rejects its configuration.
    pub fn commands(&self, shutdown: &Shutdown) -> Result<RedisNodes, Error> {
        RedisNodes::start(self.settings.clone(), shutdown)
    }

    /// The single server.
    pub(crate) fn only_server(&self) -> Option<Server> {
        self.config.server.hosts().into_iter().next()
    }

    /// A connection for subscriptions only, to one server.
    ///
    /// # Errors
    /// If the server cannot be reached, or rejects the connection.
    pub(crate) async fn connect_subscriber(
        &self,
        server: &Server,
    ) -> Result<(SubscriberWriter, SubscriberReader), ConnectionError> {
        subscriber_connection::connect(server, &self.options).await
    }

    /// Reads the slot map of the cluster. All known nodes are asked at the same time, so that one which does not
    /// respond does not use up the timeout. Of the early replies the one with the highest epoch counts: a node that
    /// was partitioned does not know its successor.
    ///
    /// # Errors
    /// If no node replies that belongs to the cluster.
    pub(crate) async fn read_slot_map(&self) -> Result<SlotMap, Error> {
        let mut servers = self.config.server.hosts();
        servers.extend(self.nodes.lock().iter().cloned());
        servers.sort_unstable_by(|a, b| (&a.host, a.port).cmp(&(&b.host, b.port)));
        servers.dedup();
        let mut views: FuturesUnordered<_> =
            servers.into_iter().map(|server| Box::pin(self.read_view(server))).collect();
        let mut newest: Option<(u64, SlotMap)> = None;
        let mut last_error = Error::new(ErrorKind::Config, "no server");
        let mut until = Instant::now() + 2 * self.options.timeout;
        while let Ok(Some(view)) = timeout_at(until, views.next()).await {
            match view {
                Ok((epoch, slots)) => {
                    if newest.is_none() {
                        until = Instant::now() + OTHER_VIEWS_TIMEOUT;
                    }
                    if newest.as_ref().is_none_or(|(known, _)| *known < epoch) {
                        newest = Some((epoch, slots));
                    }
                }
                Err(error) => last_error = error,
            }
        }
        let (_, slots) = newest.ok_or(last_error)?;
        *self.nodes.lock() = slots.nodes().to_vec();
        Ok(slots)
    }

    /// The slot map and the epoch of one node.
    async fn read_view(&self, server: Server) -> Result<(u64, SlotMap), Error> {
        let node = self.connect_node(centralized(server.clone())).await?;
        let ask = async |what: &str| {
            let command = CustomCommand::new_static("CLUSTER", ClusterHash::FirstKey, false);
            node.client.custom::<Value, _>(command, vec![what]).await
        };
        // A partitioned node does not know which replica was promoted, and reports `fail`, also with
        // `cluster-require-full-coverage no`. If a node reports `ok`, missing slots are really missing.
        let state: String = ask("INFO").await?.convert()?;
        if !state.contains("cluster_state:ok") {
            return Err(Error::new(ErrorKind::Cluster, "the cluster is down"));
        }
        let epoch = state.lines().find_map(|line| line.strip_prefix("cluster_current_epoch:")?.trim().parse().ok());
        let map = ask("SLOTS").await?;
        let slots =
            SlotMap::parse(&map, &server).ok_or_else(|| Error::new(ErrorKind::Protocol, "no map of the cluster"))?;
        Ok((epoch.unwrap_or_default(), slots))
    }

    async fn connect_node(&self, server: ServerConfig) -> Result<Node, Error> {
        // No reconnect policy: this client runs two commands.
        let client = self.builder(Config { server, ..self.config.clone() }).build()?;
        let task = client.connect();
        let node = Node { client, task };
        node.client.wait_for_connect().await.map_err(|error| match error.kind() {
            ErrorKind::IO | ErrorKind::Timeout | ErrorKind::Tls | ErrorKind::Canceled => error,
            kind => Error::new(kind.clone(), subscriber_connection::redact_error(error.details())),
        })?;
        Ok(node)
    }
}

fn centralized(server: Server) -> ServerConfig {
    ServerConfig::Centralized { server }
}

/// A short-lived client of one server.
struct Node {
    client: Client,
    /// Ends with the connection.
    task: ConnectHandle,
}

impl Drop for Node {
    fn drop(&mut self) {
        // The task owns the TCP connection, which may be half-open, so it is not closed gracefully.
        self.task.abort();
    }
}
