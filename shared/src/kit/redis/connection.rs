//! How connections to a server of Redis behave. The client library's defaults wait for ever and repeat commands that must not be;
//! nothing here does.

use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::{ClientLike, EventInterface};
use fred::types::config::{Config, ReconnectPolicy, Server, ServerConfig, TlsConfig, TlsConnector, UnresponsiveConfig};
use fred::types::{Builder, ConnectHandle, RespVersion};

use super::RedisUrl;
use super::health::connect_error;
use crate::kit::net::tls::{self, CaError, CaFile};
use crate::kit::redis::Topology;

/// Commands that may wait for one server; past it they fail at once.
pub const COMMAND_QUEUE_CAPACITY: usize = 50_000;

/// Between two attempts to connect, in milliseconds; doubled each time. The library adds jitter.
const MIN_BACKOFF_MS: u32 = 50;
const MAX_BACKOFF_MS: u32 = 1_000;

/// A Sentinel that takes longer is not waited for.
const SENTINEL_TIMEOUT: Duration = Duration::from_secs(1);

/// Where Redis is, and how long to wait for it. It shows no password.
#[derive(Clone)]
pub struct ClientOptions {
    config: Config,
    timeout: Duration,
    sentinels: Option<Arc<SentinelOptions>>,
}

/// Which Sentinels to ask, and for what.
pub(super) struct SentinelOptions {
    /// By which they know the master.
    pub(super) master_name: String,
    pub(super) servers: Vec<Server>,
    /// With their own credentials.
    pub(super) connection: ClientOptions,
}

impl ClientOptions {
    /// A command fails after `timeout`, connected or not. With TLS, servers must prove their names to `ca`, or else to this
    /// system's authorities.
    ///
    /// # Errors
    /// [`CaError`]
    pub fn new(url: &RedisUrl, ca: Option<&CaFile>, timeout: Duration) -> Result<Self, CaError> {
        let mut config = url.config().clone();
        if url.is_tls() {
            config.tls = Some(TlsConfig::from(TlsConnector::from(tls::client_config(ca)?)));
        }
        config.fail_fast = false;
        config.version = RespVersion::RESP3;
        let sentinels = SentinelOptions::from_config(&config, timeout).map(Arc::new);
        Ok(Self { config, timeout, sentinels })
    }

    /// What Redis is.
    #[must_use]
    pub fn topology(&self) -> Topology {
        if self.config.server.is_clustered() { Topology::Cluster } else { Topology::Single }
    }

    /// How long a command may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The same servers, with another patience.
    pub(super) fn with_timeout(&self, timeout: Duration) -> Self {
        Self { config: self.config.clone(), timeout, sentinels: self.sentinels.clone() }
    }

    /// The Sentinels, if some name the server.
    pub(super) fn sentinels(&self) -> Option<&Arc<SentinelOptions>> {
        self.sentinels.as_ref()
    }

    /// The servers that the URL names; Sentinels hold no data.
    #[must_use]
    pub fn servers(&self) -> Vec<Server> {
        self.config.server.hosts()
    }

    fn builder(&self, server: Server) -> Builder {
        let config = Config { server: ServerConfig::Centralized { server }, ..self.config.clone() };
        let mut builder = Builder::from_config(config);
        builder.with_performance_config(|performance| performance.default_command_timeout = self.timeout);
        builder.with_connection_config(|connection| {
            connection.connection_timeout = self.timeout.min(Duration::from_secs(2));
            connection.internal_command_timeout = self.timeout.min(Duration::from_secs(2));
            connection.max_command_buffer_len = COMMAND_QUEUE_CAPACITY;
            // A command in flight when the connection breaks may have run: who sent it decides whether it may run twice.
            connection.max_command_attempts = 1;
            connection.max_redirections = 0;
            connection.unresponsive =
                UnresponsiveConfig { max_timeout: Some(self.timeout), interval: Duration::from_millis(500) };
            connection.tcp.nodelay = Some(true);
            // What the kernel cannot deliver for so long ends the connection, however busy it is.
            connection.tcp.user_timeout = Some(self.timeout);
        });
        builder
    }

    /// A connection that comes back by itself, again and again.
    pub(super) fn connect(&self, server: Server) -> Result<ManagedClient, Error> {
        let mut builder = self.builder(server);
        builder.set_policy(ReconnectPolicy::new_exponential(0, MIN_BACKOFF_MS, MAX_BACKOFF_MS, 2));
        let client = builder.build()?;
        // Ends with the client.
        drop(client.on_error(|(error, server)| async move {
            let server = server.map(|server| server.to_string());
            tracing::warn!(error = connect_error(&error), server, "no connection to Redis");
            Ok(())
        }));
        let connection = client.connect();
        Ok(ManagedClient { client, connection })
    }

    /// A connection that does not come back. Commands wait until it is there.
    pub(super) fn connect_unmanaged(&self, server: Server) -> Result<ManagedClient, Error> {
        let mut builder = self.builder(server);
        // Says why, and does not try again.
        builder.with_config(|config| config.fail_fast = true);
        let client = builder.build()?;
        let connection = client.connect();
        Ok(ManagedClient { client, connection })
    }

    /// The same, once it is there.
    pub(super) async fn connect_once(&self, server: Server) -> Result<ManagedClient, Error> {
        let visit = self.connect_unmanaged(server)?;
        visit.client.wait_for_connect().await?;
        Ok(visit)
    }
}

impl SentinelOptions {
    fn from_config(config: &Config, timeout: Duration) -> Option<Self> {
        let ServerConfig::Sentinel { hosts, service_name, username, password } = &config.server else { return None };
        // Sentinels have no databases.
        let config =
            Config { username: username.clone(), password: password.clone(), database: None, ..config.clone() };
        let connection = ClientOptions { config, timeout: timeout.min(SENTINEL_TIMEOUT), sentinels: None };
        Some(Self { master_name: service_name.clone(), servers: hosts.clone(), connection })
    }
}

/// A client of one server, and the task that owns its connection, which ends with this.
pub(super) struct ManagedClient {
    pub(super) client: Client,
    connection: ConnectHandle,
}

impl ManagedClient {
    /// Lets go of the connection and makes a new one; what waits fails. One that was cut without a word never fails by itself
    /// as long as it is used, since the library counts silence from the last command that it sent.
    pub(super) async fn reconnect(&mut self) {
        self.connection.abort();
        let _aborted = (&mut self.connection).await;
        self.connection = self.client.connect();
    }
}

impl Drop for ManagedClient {
    fn drop(&mut self) {
        // The task owns the TCP connection, which may be half open: nothing to say goodbye to.
        self.connection.abort();
    }
}
