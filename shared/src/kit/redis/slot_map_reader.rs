//! Reads the map of the cluster from the node that knows most.

use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::ClientLike;
use fred::types::config::Server;
use fred::types::{ClusterHash, CustomCommand, Value};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use super::SlotMap;
use super::connection::ClientOptions;
use super::health::connect_error;

/// How long to wait for the other nodes' views after the first.
const OTHER_VIEWS_TIMEOUT: Duration = Duration::from_millis(100);

/// Reads the map of a cluster on connections of its own. It remembers the nodes of the last map, because those of the URL may be
/// gone.
pub struct SlotMapReader {
    settings: ClientOptions,
    known: Mutex<Vec<Server>>,
}

impl SlotMapReader {
    /// Knows the servers of the URL.
    #[must_use]
    pub fn new(settings: ClientOptions) -> Self {
        Self { settings, known: Mutex::default() }
    }

    /// Asks all known servers at the same time, so that one which does not answer does not use up the timeout.
    ///
    /// # Errors
    /// If no server answers that belongs to the cluster.
    pub async fn read(&self) -> Result<SlotMap, Error> {
        let mut servers = self.settings.servers();
        for server in self.known.lock().iter() {
            if !servers.contains(server) {
                servers.push(server.clone());
            }
        }
        let views = servers.into_iter().map(|server| self.fetch_from_server(server));
        // For the connection, and for its commands.
        let slots = newest_view(views, 2 * self.settings.timeout()).await?;
        self.remember(&slots);
        Ok(slots)
    }

    pub(super) fn remember(&self, slots: &SlotMap) {
        *self.known.lock() = slots.nodes().to_vec();
    }

    async fn fetch_from_server(&self, server: Server) -> Result<View, Error> {
        let visit = self.settings.connect_once(server.clone()).await;
        let visit = visit.map_err(|error| Error::new(error.kind().clone(), connect_error(&error)))?;
        fetch_view(&visit.client, &server).await
    }
}

/// The map as one node sees it.
pub(super) struct View {
    /// Increases when a replica is promoted or a slot moves.
    epoch: u64,
    slots: SlotMap,
}

/// The map of the node with the highest epoch: a node that was cut off from the others does not know who has taken over. Nodes
/// that have not answered shortly after the first do not count.
pub(super) async fn newest_view(
    views: impl IntoIterator<Item = impl Future<Output = Result<View, Error>>>,
    patience: Duration,
) -> Result<SlotMap, Error> {
    let mut views: FuturesUnordered<_> = views.into_iter().collect();
    let mut newest: Option<View> = None;
    let mut last_error = Error::new(ErrorKind::Timeout, "no node answers");
    let mut until = Instant::now() + patience;
    while let Ok(Some(view)) = timeout_at(until, views.next()).await {
        match view {
            Ok(view) => {
                if newest.is_none() {
                    until = until.min(Instant::now() + OTHER_VIEWS_TIMEOUT);
                }
                if newest.as_ref().is_none_or(|known| known.epoch < view.epoch) {
                    newest = Some(view);
                }
            }
            Err(error) => last_error = error,
        }
    }
    newest.map(|view| view.slots).ok_or(last_error)
}

/// Asks a node for the map of the cluster.
pub(super) async fn fetch_view(client: &Client, server: &Server) -> Result<View, Error> {
    let ask = async |what: &str| {
        let command = CustomCommand::new_static("CLUSTER", ClusterHash::FirstKey, false);
        client.custom::<Value, _>(command, vec![what]).await
    };
    // A node that is cut off reports `fail`, also with `cluster-require-full-coverage no`. If it reports `ok`, missing slots are
    // really missing.
    let state: String = ask("INFO").await?.convert()?;
    if !state.contains("cluster_state:ok") {
        return Err(Error::new(ErrorKind::Cluster, "the cluster is down"));
    }
    let epoch = state.lines().find_map(|line| line.strip_prefix("cluster_current_epoch:")?.trim().parse().ok());
    let map = ask("SLOTS").await?;
    let slots = SlotMap::parse(&map, server).ok_or_else(|| Error::new(ErrorKind::Protocol, "no map of the cluster"))?;
    Ok(View { epoch: epoch.unwrap_or_default(), slots })
}
