//! Reads the map of the cluster, from the node that knows most, and connects to its masters.

use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::ClientLike;
use fred::types::config::Server;
use fred::types::{ClusterHash, CustomCommand, Value};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::connection::{ClientOptions, ManagedClient};
use super::health::connect_error;
use super::node::{Node, NodeEvent};
use super::{RedisNodes, SlotMap};

/// At least between two readings.
const MIN_REFRESH_INTERVAL: Duration = Duration::from_millis(100);
/// Between two while all is well, and while a node is down or there is no map.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5);
const UNHEALTHY_REFRESH_INTERVAL: Duration = Duration::from_millis(500);
/// How long to wait for the other nodes' views after the first.
const OTHER_VIEWS_TIMEOUT: Duration = Duration::from_millis(100);
/// New nodes whose connections are not watched yet.
const NEW_NODES_CAPACITY: usize = 64;

impl RedisNodes {
    /// Reads the map again and again, and watches the connections to all masters. Never returns.
    pub(super) async fn run_cluster(&self) {
        let (found, mut new) = mpsc::channel::<(Arc<Node>, ManagedClient)>(NEW_NODES_CAPACITY);
        let keep = async {
            let mut kept = FuturesUnordered::new();
            loop {
                tokio::select! {
                    Some((node, redis)) = new.recv() => {
                        kept.push(async move { node.run(redis, |news| self.on_event(news)).await });
                    }
                    Some(()) = kept.next(), if !kept.is_empty() => {}
                }
            }
        };
        tokio::select! {
            () = self.refresh_loop(found) => {}
            () = keep => {}
        }
    }

    async fn refresh_loop(&self, found: mpsc::Sender<(Arc<Node>, ManagedClient)>) {
        let mut warned_at = None::<Instant>;
        loop {
            let read = timeout(self.0.settings.timeout(), self.fetch_slot_map()).await;
            match read.unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout, "no node answers"))) {
                Ok(slots) => {
                    for new in self.apply_slot_map(slots) {
                        // The other end is beside this one.
                        let _gone = found.send(new).await;
                    }
                    warned_at = None;
                }
                Err(error) if warned_at.is_none_or(|at| at.elapsed() > REFRESH_INTERVAL) => {
                    warned_at = Some(Instant::now());
                    tracing::warn!(error = error.details(), "no node of Redis says who serves what");
                }
                Err(_) => {}
            }
            self.0.refreshes.send_modify(|readings| *readings += 1);
            sleep(MIN_REFRESH_INTERVAL).await;
            let is_well = {
                let cluster = self.0.cluster.read();
                cluster.slots.is_some() && cluster.nodes.iter().all(|node| node.is_usable())
            };
            let every = if is_well { REFRESH_INTERVAL } else { UNHEALTHY_REFRESH_INTERVAL };
            let _sooner = timeout(every, self.0.refresh_requested.notified()).await;
        }
    }

    /// Asks the masters that answer, on their connections, and when none of them knows, all servers that were ever named.
    async fn fetch_slot_map(&self) -> Result<SlotMap, Error> {
        let nodes = self.0.cluster.read().nodes.clone();
        let views = nodes.iter().filter(|node| node.is_up()).map(|node| fetch_view(&node.client, &node.server));
        match newest_view(views, self.0.settings.timeout()).await {
            Ok(slots) => {
                self.0.map_reader.remember(&slots);
                Ok(slots)
            }
            Err(_) => self.0.map_reader.read().await,
        }
    }

    /// Takes a map for the truth. Returns new nodes, whose connections are to be watched; nodes that serve nothing any more end.
    pub(super) fn apply_slot_map(&self, slots: SlotMap) -> Vec<(Arc<Node>, ManagedClient)> {
        let mut new = Vec::new();
        let mut cluster = self.0.cluster.write();
        let mut nodes: Vec<Arc<Node>> = Vec::with_capacity(slots.masters().len());
        for master in slots.masters() {
            if let Some(known) = cluster.nodes.iter().find(|node| node.server == *master) {
                nodes.push(known.clone());
                continue;
            }
            match self.0.settings.connect(master.clone()) {
                Ok(redis) => {
                    let node = Arc::new(Node::new(master.clone(), redis.client.clone(), true));
                    new.push((node.clone(), redis));
                    nodes.push(node);
                }
                Err(error) => {
                    // Its configuration is that of the others.
                    tracing::error!(error = error.details(), "cannot connect to a node of Redis");
                    return new;
                }
            }
        }
        let gone: Vec<_> =
            cluster.nodes.iter().filter(|known| !nodes.iter().any(|node| Arc::ptr_eq(known, node))).collect();
        gone.iter().for_each(|node| node.retire());
        let is_changed = cluster.slots.is_some() && !(new.is_empty() && gone.is_empty());
        cluster.slots = Some(Arc::new(slots));
        cluster.nodes = nodes;
        drop(cluster);
        if is_changed {
            tracing::info!("the masters of the Redis Cluster are others than before");
            self.on_event(NodeEvent::ConnectionLost(Instant::now()));
        }
        new
    }
}

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

    fn remember(&self, slots: &SlotMap) {
        *self.known.lock() = slots.nodes().to_vec();
    }

    async fn fetch_from_server(&self, server: Server) -> Result<View, Error> {
        let visit = self.settings.connect_once(server.clone()).await;
        let visit = visit.map_err(|error| Error::new(error.kind().clone(), connect_error(&error)))?;
        fetch_view(&visit.client, &server).await
    }
}

/// The map as one node sees it.
struct View {
    /// Increases when a replica is promoted or a slot moves.
    epoch: u64,
    slots: SlotMap,
}

/// The map of the node with the highest epoch: a node that was cut off from the others does not know who has taken over. Nodes
/// that have not answered shortly after the first do not count.
async fn newest_view(
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
async fn fetch_view(client: &Client, server: &Server) -> Result<View, Error> {
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
