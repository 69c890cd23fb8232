//! What is done to what Redis holds, and to its memory: of one server, of the master of Sentinels, or of the nodes of a cluster.

use anyhow::{Context, Result};
use stack::Stack;
use tokio::time::{Instant, sleep};

use super::fault::Topology;
use super::timing::FROZEN;
use crate::cluster::{Node, Nodes};
use crate::sentinels::Sentinels;

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
    nodes: Vec<Node>,
    redis: Redis,
}

/// What it is.
enum Redis {
    Single,
    Cluster(Nodes),
    Sentinel(Sentinels),
}

impl RedisServer {
    pub(super) fn of(backends: &Stack, topology: Topology) -> Result<Self> {
        let env = backends.env();
        Ok(match topology {
            Topology::Single => Self { nodes: Nodes::of(&env.redis_url)?.all().to_vec(), redis: Redis::Single },
            Topology::Cluster => {
                let nodes = Nodes::of(&env.redis_url)?;
                Self { nodes: nodes.all().to_vec(), redis: Redis::Cluster(nodes) }
            }
            Topology::Sentinel => {
                let sentinels = Sentinels::of(&env)?;
                Self { nodes: sentinels.servers().to_vec(), redis: Redis::Sentinel(sentinels) }
            }
        })
    }

    /// The node that serves a key.
    async fn owner_of(&self, key: &str) -> Result<Node> {
        match &self.redis {
            Redis::Single => self.nodes.first().cloned().context("one server"),
            Redis::Cluster(nodes) => nodes.owner_of(key).await,
            Redis::Sentinel(sentinels) => sentinels.master().await,
        }
    }

    async fn writable(&self) -> Result<Vec<Node>> {
        match &self.redis {
            Redis::Single => Ok(self.nodes.clone()),
            Redis::Cluster(nodes) => nodes.masters().await,
            Redis::Sentinel(sentinels) => Ok(vec![sentinels.master().await?]),
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
        for node in &self.nodes {
            for kind in ["normal", "pubsub"] {
                // A node that is down has no clients.
                let _ = node.ask(&["CLIENT", "KILL", "TYPE", kind]).await;
            }
        }
        Ok(())
    }
}
