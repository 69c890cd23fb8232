//! Connections to Redis: how long they wait, how often they retry, what they refuse to repeat.
//!
//! The client library's defaults wait for ever and repeat commands that must not be; nothing here does.

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
use shared::channel::Topology;
use shared::redis::Settings;
pub use shared::redis::{Nodes, RedisUrl};
use shared::shutdown::Shutdown;
use shared::tls::{self, CaError, CaFile};
use tokio::time::{Instant, timeout_at};

use super::subscriber_connection::{self, ConnectOptions, ConnectionError, SubscriberReader, SubscriberWriter};
pub(crate) use shared::redis::{SLOTS, Slots, slot_of};

/// How often an idle connection is asked whether it is alive.
pub(crate) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// How long the other nodes of a cluster have to say how they see it, once one has.
const OTHER_VIEWS_TIMEOUT: Duration = Duration::from_millis(100);

/// Where Redis is, and how long to wait for it.
#[derive(Clone)]
pub struct RedisConnector {
    config: Config,
    options: ConnectOptions,
    settings: Settings,
    /// Nodes of the cluster that were there when it was last looked at: those of the URL may be gone by now.
    nodes: Arc<Mutex<Vec<Server>>>,
}

impl RedisConnector {
    /// No connection yet. With TLS, servers must prove their names to `ca`, or else to this system's authorities.
    ///
    /// # Errors
    /// [`NoAuthority`]
    pub fn new(url: &RedisUrl, ca: Option<&CaFile>, timeout: Duration) -> Result<Self, CaError> {
        let settings = Settings::new(url, ca, timeout)?;
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

    /// What Redis is.
    #[must_use]
    pub fn topology(&self) -> Topology {
        if self.config.server.is_clustered() { Topology::Cluster } else { Topology::Single }
    }

    /// How long a command may take.
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
            // A command in flight when the connection breaks may have run: who sent it decides whether it may run twice.
            connection.max_command_attempts = 1;
            connection.unresponsive =
                UnresponsiveConfig { max_timeout: Some(self.options.timeout), interval: self.options.timeout / 4 };
            connection.tcp.nodelay = Some(true);
            // What the kernel cannot deliver for so long ends the connection, however busy it is.
            connection.tcp.user_timeout = Some(self.options.timeout);
        });
        builder
    }

    /// The connections for commands, one a master of a cluster. They come back by themselves, until `shutdown`; commands fail meanwhile,
    /// and those for one master know nothing of another's fate.
    ///
    /// # Errors
    /// When the client library refuses its configuration.
    pub fn commands(&self, shutdown: &Shutdown) -> Result<Nodes, Error> {
        Nodes::start(self.settings.clone(), shutdown)
    }

    /// The server that is not a cluster.
    pub(crate) fn only_server(&self) -> Option<Server> {
        self.config.server.hosts().into_iter().next()
    }

    /// A connection for subscriptions only, to one server. Never used for data.
    ///
    /// # Errors
    /// When it cannot be reached, or refuses us.
    pub(crate) async fn connect_subscriber(
        &self,
        server: &Server,
    ) -> Result<(SubscriberWriter, SubscriberReader), ConnectionError> {
        subscriber_connection::connect(server, &self.options).await
    }

    /// The map of the cluster. All nodes that are known are asked at once: one that does not answer must not use up the time of
    /// the others. Of those who answer soon the one that has seen the most elections is believed, since one that has just been
    /// cut off, or has stood still, does not know yet that it has a successor.
    ///
    /// # Errors
    /// When no node answers that belongs to the cluster.
    pub(crate) async fn read_slot_map(&self) -> Result<Slots, Error> {
        let mut servers = self.config.server.hosts();
        servers.extend(self.nodes.lock().iter().cloned());
        servers.sort_unstable_by(|a, b| (&a.host, a.port).cmp(&(&b.host, b.port)));
        servers.dedup();
        let mut views: FuturesUnordered<_> =
            servers.into_iter().map(|server| Box::pin(self.read_view(server))).collect();
        let mut newest: Option<(u64, Slots)> = None;
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

    /// The map of the cluster as one node sees it, and how many elections that has seen.
    async fn read_view(&self, server: Server) -> Result<(u64, Slots), Error> {
        let node = self.connect_node(centralized(server.clone())).await?;
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

    async fn connect_node(&self, server: ServerConfig) -> Result<Node, Error> {
        // No reconnect policy: one question, then it is done with.
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
