//! How to reach Redis: with the clients of `shared::kit::redis` for commands and for the map of a cluster, and with connections
//! of our own for subscriptions.

use std::sync::Arc;
use std::time::Duration;

pub(crate) use fred::error::Error;
use fred::types::config::Server;
use shared::kit::net::tls::{self, CaError, CaFile};
pub(crate) use shared::kit::redis::MasterWatch;
pub(crate) use shared::kit::redis::RedisNodes;
use shared::kit::redis::{ClientOptions, RedisUrl, SlotMapReader, Topology};
use shared::kit::shutdown::Shutdown;

use super::subscriber_connection::{self, ConnectOptions, ConnectionError, SubscriberReader, SubscriberWriter};
pub(crate) use shared::kit::redis::{SLOT_COUNT, SlotMap, slot_of};

/// Between two heartbeats of an idle connection.
pub(crate) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Addresses, credentials and timeouts.
#[derive(Clone)]
pub(crate) struct RedisConnector {
    options: ConnectOptions,
    settings: ClientOptions,
    map_reader: Arc<SlotMapReader>,
}

impl RedisConnector {
    /// Connects nothing yet. With TLS, servers are verified against `ca`, or the system's CAs.
    ///
    /// # Errors
    /// [`CaError`]
    pub(crate) fn new(url: &RedisUrl, ca: Option<&CaFile>, timeout: Duration) -> Result<Self, CaError> {
        let settings = ClientOptions::new(url, ca, timeout)?;
        let (username, password) = (url.config().username.clone(), url.config().password.clone());
        let tls = if url.is_tls() { Some(Arc::new(tls::client_config(ca)?).into()) } else { None };
        let options = ConnectOptions { username, password, tls, timeout };
        Ok(Self { options, map_reader: Arc::new(SlotMapReader::new(settings.clone())), settings })
    }

    /// A single server or a cluster.
    #[must_use]
    pub(crate) fn topology(&self) -> Topology {
        self.settings.topology()
    }

    /// Connections for commands, one per master. They reconnect until `shutdown`. Commands fail in the meantime,
    /// independently for each master.
    ///
    /// # Errors
    /// If the client library rejects its configuration.
    pub(crate) fn commands(&self, shutdown: &Shutdown) -> Result<RedisNodes, Error> {
        RedisNodes::start(self.settings.clone(), shutdown)
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

    /// Reads the slot map of the cluster.
    ///
    /// # Errors
    /// If no node replies that belongs to the cluster.
    pub(crate) async fn read_slot_map(&self) -> Result<SlotMap, Error> {
        self.map_reader.read().await
    }
}
