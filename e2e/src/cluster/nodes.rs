//! The nodes of a cluster, asked with `redis-cli`.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stack::StackEnv;
use tokio::process::Command;
use tokio::time::timeout;

/// A node that takes longer is as good as dead.
const WAIT_TIMEOUT: Duration = Duration::from_secs(3);

/// Every node of a cluster.
#[derive(Debug, Clone)]
pub struct Nodes(Vec<Node>);

/// One of them.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its place in the system's lists of nodes.
    pub place: usize,
    pub(super) host: String,
    pub(super) port: String,
    pub(super) password: String,
}

impl Nodes {
    /// The nodes that a URL of the form `redis-cluster://USER:PASSWORD@HOST:PORT?node=HOST:PORT&…` names.
    ///
    /// # Errors
    /// When it is none.
    pub fn of(url: &str) -> Result<Self> {
        let (credentials, places) = url.split_once('@').context("a URL with a password")?;
        let (_, password) = credentials.rsplit_once(':').context("a URL with a password")?;
        let nodes = places.split(['?', '&']).enumerate().map(|(place, address)| {
            let (host, port) = address.trim_start_matches("node=").rsplit_once(':').context("a node has a port")?;
            Ok(Node { place, host: host.to_owned(), port: port.to_owned(), password: password.to_owned() })
        });
        nodes.collect::<Result<_>>().map(Self)
    }

    /// All of them, masters and replicas.
    #[must_use]
    pub fn all(&self) -> &[Node] {
        &self.0
    }

    /// Who serves slots, as the last of those says who answer: tests are hard on the first.
    ///
    /// # Errors
    /// When none answers.
    pub async fn masters(&self) -> Result<Vec<Node>> {
        for node in self.0.iter().rev() {
            if let Ok(view) = node.ask(&["CLUSTER", "NODES"]).await {
                return Ok(self.masters_in(&view));
            }
        }
        anyhow::bail!("no node of the cluster answers")
    }

    /// The masters in an answer to `CLUSTER NODES`. Its columns: id, place, flags, master, two times, epoch, link, slots.
    fn masters_in(&self, view: &str) -> Vec<Node> {
        let rows = view.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let serving = rows.filter(|row| {
            row.len() > 8 && row[2].split(',').all(|flag| !flag.starts_with("fail")) && row[2].contains("master")
        });
        let ports = serving.filter_map(|row| row[1].split('@').next()?.rsplit(':').next().map(str::to_owned));
        ports.filter_map(|port| self.0.iter().find(|node| node.port == port).cloned()).collect()
    }

    /// Who takes over when this master is lost.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn replicas_of(&self, master: &Node) -> Result<Vec<Node>> {
        let id = master.ask(&["CLUSTER", "MYID"]).await?;
        let view = master.ask(&["CLUSTER", "REPLICAS", id.trim()]).await?;
        let ports =
            view.lines().filter_map(|line| line.split_whitespace().nth(1)?.split('@').next()?.rsplit(':').next());
        Ok(ports.filter_map(|port| self.0.iter().find(|node| node.port == port).cloned()).collect())
    }

    /// Whether every node knows who serves what, and every replica has what its master has.
    pub async fn are_whole(&self) -> bool {
        let mut masters = 0;
        for node in &self.0 {
            let (Ok(state), Ok(role)) =
                (node.ask(&["CLUSTER", "INFO"]).await, node.ask(&["INFO", "replication"]).await)
            else {
                return false;
            };
            let is_master = role.contains("role:master");
            masters += usize::from(is_master);
            let is_in_step = if is_master { role.contains("state=online") } else { role.contains("link_status:up") };
            if !is_in_step || !state.contains("cluster_state:ok") {
                return false;
            }
        }
        masters * 2 == self.0.len()
    }

    /// The node that serves the slot of `key`.
    ///
    /// # Errors
    /// When it is not one.
    pub async fn owner_of(&self, key: &str) -> Result<Node> {
        let mut owners = Vec::new();
        for master in self.masters().await? {
            if master.serves(key).await? {
                owners.push(master);
            }
        }
        ensure!(owners.len() == 1, "{} masters serve {key}", owners.len());
        owners.pop().context("there is one")
    }
}

impl Node {
    pub(crate) fn at(place: usize, host: &str, port: &str, password: &str) -> Self {
        Self { place, host: host.to_owned(), port: port.to_owned(), password: password.to_owned() }
    }

    pub(crate) fn port(&self) -> &str {
        &self.port
    }

    /// What it answers.
    ///
    /// # Errors
    /// When it is dead, or stands still.
    pub async fn ask(&self, words: &[&str]) -> Result<String> {
        let mut cli = Command::new("redis-cli");
        cli.args(["--no-auth-warning", "-h", &self.host, "-p", &self.port]).args(words);
        cli.env("REDISCLI_AUTH", &self.password).stdin(Stdio::null()).kill_on_drop(true);
        let output = timeout(WAIT_TIMEOUT, cli.output()).await.with_context(|| format!("{words:?}: no answer"))??;
        ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Has it do something.
    ///
    /// # Errors
    /// When it does not.
    pub async fn tell(&self, words: &[&str]) -> Result<()> {
        let answer = self.ask(words).await?;
        ensure!(answer.trim() == "OK", "{words:?}: {}", answer.trim());
        Ok(())
    }

    /// Whether the slot of a key is its own.
    ///
    /// # Errors
    /// As [`Node::ask`].
    pub async fn serves(&self, key: &str) -> Result<bool> {
        Ok(!self.ask(&["EXISTS", key]).await?.contains("MOVED"))
    }

    /// The channels with subscribers here.
    ///
    /// # Errors
    /// As [`Node::ask`].
    pub async fn channels(&self) -> Result<Vec<String>> {
        let channels = self.ask(&["PUBSUB", "SHARDCHANNELS"]).await?;
        Ok(channels.lines().filter(|channel| !channel.is_empty()).map(str::to_owned).collect())
    }

    /// Its process.
    ///
    /// # Errors
    /// When `env` is of another system.
    pub fn pid(&self, env: &StackEnv) -> Result<i32> {
        env.redis_node_pids.get(self.place).copied().context("a node of this system")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "redis-cluster://default:secret@127.0.0.1:1?node=127.0.0.1:2&node=127.0.0.1:3";

    #[test]
    fn url_lists_nodes_in_order() {
        let nodes = Nodes::of(URL).unwrap();
        let places: Vec<_> = nodes.all().iter().map(|node| (node.place, node.port.as_str())).collect();
        assert_eq!(places, [(0, "1"), (1, "2"), (2, "3")]);
        assert_eq!(nodes.all()[0].password, "secret");
        assert!(Nodes::of("redis://127.0.0.1:1").is_err());
    }

    #[test]
    fn masters_are_live_nodes_with_slots() {
        let view = "\
            a 127.0.0.1:1@11 master,fail - 1 1 1 disconnected\n\
            b 127.0.0.1:2@12 myself,master - 0 0 4 connected 0-5460\n\
            c 127.0.0.1:3@13 slave b 0 0 4 connected\n";
        let masters = Nodes::of(URL).unwrap().masters_in(view);
        assert_eq!(masters.iter().map(|node| node.place).collect::<Vec<_>>(), [1]);
        let suspected = view.replace("myself,master", "master,fail?");
        assert!(Nodes::of(URL).unwrap().masters_in(&suspected).is_empty());
    }
}
