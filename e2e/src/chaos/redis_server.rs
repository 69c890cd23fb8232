//! What is done to what Redis holds, and to its memory: of one server, or of the nodes of a cluster.

use anyhow::{Context, Result};
use stack::Stack;
use tokio::time::{Instant, sleep};

use super::fault::Topology;
use super::timing::FROZEN;
use crate::cluster::{Node, Nodes};

/// Streams from the gateways to the API services.
const STREAMS: [&str; 3] = ["receipts", "audit", "conversation_checks"];
/// Streams whose content may go: what they carry is asked again, or is kept by the gateways. A receipt that is on its way
/// when `receipts` is overwritten would be lost unnoticed, which no mistake of an operator does to one key alone.
const OVERWRITTEN: [&str; 1] = ["conversation_checks"];
/// Event logs that are overwritten.
const LOGS: usize = 2;
/// Entries of each kind in each stream.
const INVALID_ENTRIES: usize = 5;

/// Redis, past the links of the services.
pub(super) struct RedisServer {
    nodes: Nodes,
    topology: Topology,
}

impl RedisServer {
    pub(super) fn of(backends: &Stack, topology: Topology) -> Result<Self> {
        Ok(Self { nodes: Nodes::of(&backends.env().redis_url)?, topology })
    }

    /// The node that serves a key.
    async fn owner_of(&self, key: &str) -> Result<Node> {
        match self.topology {
            Topology::Single => self.nodes.all().first().cloned().context("one server"),
            Topology::Cluster => self.nodes.owner_of(key).await,
        }
    }

    async fn writable(&self) -> Result<Vec<Node>> {
        match self.topology {
            Topology::Single => Ok(self.nodes.all().to_vec()),
            Topology::Cluster => self.nodes.masters().await,
        }
    }

    /// One server, or one master of a cluster, refuses every write that needs memory.
    pub(super) async fn fill(&self, choice: usize) -> Result<Instant> {
        let nodes = self.writable().await?;
        let node = nodes.get(choice % nodes.len().max(1)).context("Redis has a node that takes writes")?;
        node.tell(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await?;
        node.tell(&["CONFIG", "SET", "maxmemory", "1"]).await?;
        sleep(FROZEN).await;
        node.tell(&["CONFIG", "SET", "maxmemory", "0"]).await?;
        Ok(Instant::now())
    }

    /// Puts strings where event logs and a stream stand. They end by themselves.
    pub(super) async fn overwrite_keys(&self, choice: usize) -> Result<Instant> {
        let mut logs = Vec::new();
        for node in self.writable().await? {
            let keys = node.ask(&["KEYS", "chat:*:log"]).await?;
            logs.extend(keys.lines().filter(|key| !key.is_empty()).map(str::to_owned));
        }
        logs.sort();
        let chosen = (0..LOGS.min(logs.len())).map(|number| logs[(choice + number) % logs.len()].as_str());
        let life = FROZEN.as_secs().to_string();
        for key in chosen.chain(OVERWRITTEN) {
            self.owner_of(key).await?.tell(&["SET", key, "of another type", "EX", &life]).await?;
        }
        sleep(FROZEN).await;
        Ok(Instant::now())
    }

    /// Adds unreadable entries to the streams between the services. Redis scripts can name any byte.
    pub(super) async fn add_invalid_entries(&self) -> Result<Instant> {
        let entries = [r#""r", "\255\254\0""#, r#""r", "{""#, r#""\255", "{}""#, r#""r", "[1,2]""#, r#""other", "x""#];
        for stream in STREAMS {
            let node = self.owner_of(stream).await?;
            for _ in 0..INVALID_ENTRIES {
                for entry in entries {
                    let script = format!("return redis.call('XADD', KEYS[1], '*', {entry})");
                    node.ask(&["EVAL", &script, "1", stream]).await?;
                }
            }
        }
        Ok(Instant::now())
    }

    /// Ends all connections of clients, which then have to come back.
    pub(super) async fn disconnect_clients(&self) -> Result<()> {
        for node in self.nodes.all() {
            for kind in ["normal", "pubsub"] {
                // A node that is down has no clients.
                let _ = node.ask(&["CLIENT", "KILL", "TYPE", kind]).await;
            }
        }
        Ok(())
    }
}
