//! A Redis master with its replicas and Sentinels, as an operator sees them.

use anyhow::{Context, Result, ensure};
use stack::StackEnv;

use crate::cluster::Node;

/// The name by which the stack's Sentinels know the master.
pub const MASTER_NAME: &str = "chat";

/// The servers and the Sentinels of a stack.
#[derive(Debug, Clone)]
pub struct Sentinels {
    servers: Vec<Node>,
    sentinels: Vec<Node>,
}

impl Sentinels {
    /// Those of a stack with `redis_sentinel`.
    ///
    /// # Errors
    /// When the stack has none.
    pub fn of(env: &StackEnv) -> Result<Self> {
        let (scheme, rest) = env.redis_url.split_once("://").context("a URL of Redis")?;
        ensure!(scheme == "redis-sentinel", "the stack has no Sentinels");
        let (credentials, places) = rest.split_once('@').context("a password")?;
        let (_, password) = credentials.split_once(':').context("a password")?;
        let (first, query) = places.split_once('?').context("a query")?;
        let parameters: Vec<(&str, &str)> = query.split('&').filter_map(|part| part.split_once('=')).collect();
        let values = |name| parameters.iter().filter(move |(known, _)| *known == name).map(|(_, value)| *value);
        let sentinel_password = values("sentinelPassword").next().context("a password of the Sentinels")?;
        let sentinels = [first].into_iter().chain(values("node")).enumerate().map(|(place, address)| {
            let (host, port) = address.rsplit_once(':').context("a Sentinel has a port")?;
            Ok(Node::at(place, host, port, sentinel_password))
        });
        let servers = env.redis_node_ports.iter().enumerate();
        let servers = servers.map(|(place, port)| Node::at(place, "127.0.0.1", &port.to_string(), password));
        Ok(Self { sentinels: sentinels.collect::<Result<_>>()?, servers: servers.collect() })
    }

    /// All servers that hold data.
    #[must_use]
    pub fn servers(&self) -> &[Node] {
        &self.servers
    }

    /// The server that most Sentinels name.
    ///
    /// # Errors
    /// When no two of them agree.
    pub async fn master(&self) -> Result<Node> {
        let mut named = Vec::new();
        for sentinel in &self.sentinels {
            if let Ok(answer) = sentinel.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME]).await {
                named.extend(answer.lines().nth(1).map(|port| port.trim().to_owned()));
            }
        }
        let agreed =
            named.iter().find(|port| named.iter().filter(|other| other == port).count() * 2 > self.sentinels.len());
        let port = agreed.context("no two Sentinels name the same master")?;
        self.servers.iter().find(|server| server.port() == port).cloned().context("a server of this system")
    }

    /// The servers that are not the master.
    ///
    /// # Errors
    /// As [`Self::master`].
    pub async fn replicas(&self) -> Result<Vec<Node>> {
        let master = self.master().await?;
        Ok(self.servers.iter().filter(|server| server.place != master.place).cloned().collect())
    }

    /// A planned failover. Returns when a Sentinel has begun it.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn fail_over(&self) -> Result<()> {
        self.sentinels.last().context("a Sentinel")?.tell(&["SENTINEL", "FAILOVER", MASTER_NAME]).await
    }

    /// Whether all Sentinels name the same master, know each other and the replicas, and the replicas have what the master has.
    pub async fn are_whole(&self) -> bool {
        let Ok(master) = self.master().await else { return false };
        let port = format!(":{},slaves={},sentinels={}", master.port(), self.servers.len() - 1, self.sentinels.len());
        for sentinel in &self.sentinels {
            match sentinel.ask(&["INFO", "sentinel"]).await {
                Ok(state) if state.contains("status=ok") && state.contains(&port) => {}
                _ => return false,
            }
            let replicas = sentinel.ask(&["SENTINEL", "REPLICAS", MASTER_NAME]).await.unwrap_or_default();
            let is_any_down = ["s_down", "disconnected", "master_down"].iter().any(|flag| replicas.contains(flag));
            if replicas.is_empty() || is_any_down {
                return false;
            }
        }
        for server in &self.servers {
            let Ok(role) = server.ask(&["INFO", "replication"]).await else { return false };
            let is_in_step = match server.place == master.place {
                true => role.contains("role:master") && role.matches("state=online").count() + 1 == self.servers.len(),
                false => role.contains("role:slave") && role.contains("master_link_status:up"),
            };
            if !is_in_step {
                return false;
            }
        }
        true
    }
}
