//! Keeps the map of the cluster up to date, and a connection to each of its masters.

use std::sync::Arc;
use std::time::Duration;

use fred::error::Error;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::connection::ManagedClient;
use super::node::{Node, NodeEvent, NodeKind};
use super::slot_map_reader::{fetch_view, newest_view};
use super::{RedisNodes, SlotMap};

/// Least time between two readings.
const MIN_REFRESH_INTERVAL: Duration = Duration::from_millis(100);
/// Between two while all is well, and while a node is down or there is no map.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5);
const UNHEALTHY_REFRESH_INTERVAL: Duration = Duration::from_millis(500);
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
            match self.fetch_slot_map().await {
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

    /// Asks the masters that answer, on their connections. If none of them knows, asks all known servers. Each stage has a limit.
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
                    let node = Arc::new(Node::new(master.clone(), redis.client.clone(), NodeKind::ClusterMaster));
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
