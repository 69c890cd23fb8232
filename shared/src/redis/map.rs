//! Reads the map of the cluster, from the first node that answers, and connects to its masters.

use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::ClientLike;
use fred::types::config::Server;
use fred::types::{ClusterHash, CustomCommand, Value};
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, select_ok};
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::connection::{Connected, Settings};
use super::node::{News, Node};
use super::{Nodes, Slots};

/// At least between two readings.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two while all is well, and while a node is down or there is no map.
const READ_EVERY: Duration = Duration::from_secs(5);
const READ_EVERY_IN_TROUBLE: Duration = Duration::from_millis(500);
/// New nodes whose connections are not watched yet.
const NEW_NODES: usize = 64;

impl Nodes {
    /// Reads the map again and again, and watches the connections to all masters. Never returns.
    pub(super) async fn keep_cluster(&self) {
        let (found, mut new) = mpsc::channel::<(Arc<Node>, Connected)>(NEW_NODES);
        let keep = async {
            let mut kept = FuturesUnordered::new();
            loop {
                tokio::select! {
                    Some((node, redis)) = new.recv() => {
                        kept.push(async move { node.keep(redis, |news| self.hear(news)).await });
                    }
                    Some(()) = kept.next(), if !kept.is_empty() => {}
                }
            }
        };
        tokio::select! {
            () = self.read_maps(found) => {}
            () = keep => {}
        }
    }

    async fn read_maps(&self, found: mpsc::Sender<(Arc<Node>, Connected)>) {
        let mut warned_at = None::<Instant>;
        loop {
            let read = timeout(self.0.settings.timeout(), self.read_map()).await;
            match read.unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout, "no node answers"))) {
                Ok(slots) => {
                    for new in self.adopt(slots) {
                        // The other end is beside this one.
                        let _gone = found.send(new).await;
                    }
                    warned_at = None;
                }
                Err(error) if warned_at.is_none_or(|at| at.elapsed() > READ_EVERY) => {
                    warned_at = Some(Instant::now());
                    tracing::warn!(error = error.details(), "no node of Redis says who serves what");
                }
                Err(_) => {}
            }
            self.0.readings.send_modify(|readings| *readings += 1);
            sleep(PAUSE).await;
            let is_well = {
                let cluster = self.0.cluster.read();
                cluster.slots.is_some() && cluster.nodes.iter().all(|node| node.is_usable())
            };
            let every = if is_well { READ_EVERY } else { READ_EVERY_IN_TROUBLE };
            let _sooner = timeout(every, self.0.wanted.notified()).await;
        }
    }

    /// Asks the masters that answer, all at once, and when none of them knows, all servers that were ever named.
    async fn read_map(&self) -> Result<Slots, Error> {
        let (nodes, known) = {
            let cluster = self.0.cluster.read();
            (cluster.nodes.clone(), cluster.slots.as_ref().map(|slots| slots.nodes().to_vec()))
        };
        let asked: Vec<BoxFuture<'_, _>> = nodes
            .iter()
            .filter(|node| node.is_up())
            .map(|node| -> BoxFuture<'_, _> { Box::pin(ask(&node.client, &node.server)) })
            .collect();
        if !asked.is_empty()
            && let Ok((slots, _others)) = select_ok(asked).await
        {
            return Ok(slots);
        }
        let mut servers = self.0.settings.servers();
        for server in known.unwrap_or_default() {
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
        let settings = &self.0.settings;
        let (slots, _others) = select_ok(servers.into_iter().map(|server| Box::pin(visit(settings, server)))).await?;
        Ok(slots)
    }

    /// Takes a map for the truth. Returns new nodes, whose connections are to be watched; nodes that serve nothing any more end.
    pub(super) fn adopt(&self, slots: Slots) -> Vec<(Arc<Node>, Connected)> {
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
        gone.iter().for_each(|node| node.end());
        let is_changed = cluster.slots.is_some() && !(new.is_empty() && gone.is_empty());
        cluster.slots = Some(Arc::new(slots));
        cluster.nodes = nodes;
        drop(cluster);
        if is_changed {
            tracing::info!("the masters of the Redis Cluster are others than before");
            self.hear(News::Lost(Instant::now()));
        }
        new
    }
}

/// Asks a server on a connection of its own.
async fn visit(settings: &Settings, server: Server) -> Result<Slots, Error> {
    let visit = settings.visit(server.clone()).await?;
    ask(&visit.client, &server).await
}

/// Asks a node for the map of the cluster.
async fn ask(client: &Client, server: &Server) -> Result<Slots, Error> {
    let ask = async |what: &str| {
        let command = CustomCommand::new_static("CLUSTER", ClusterHash::FirstKey, false);
        client.custom::<Value, _>(command, vec![what]).await
    };
    // One that is cut off from the others does not know who has taken over.
    let state: String = ask("INFO").await?.convert()?;
    if !state.contains("cluster_state:ok") {
        return Err(Error::new(ErrorKind::Cluster, "the cluster is down"));
    }
    let map = ask("SLOTS").await?;
    Slots::read(&map, server).ok_or_else(|| Error::new(ErrorKind::Protocol, "no map of the cluster"))
}
