//! What is done to a Redis Cluster: to its nodes, and to its slots.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stack::{Signal, Stack};
use tokio::time::{Instant, sleep};

use super::comes_true;
use super::timing::{FROZEN, WAIT_TIMEOUT};
use crate::cluster::{Node, Nodes, RestartsPaused, SlotMigration};

/// How long a resharding stays at each of its steps, while the load goes on.
const STEP: Duration = Duration::from_secs(1);
/// What is in no conversation and must survive a move as well.
const OTHER_KEYS: [&str; 2] = ["receipts", "revoked"];

/// The cluster of a stack.
pub(super) struct Cluster<'a> {
    backends: &'a Stack,
    nodes: Nodes,
}

impl<'a> Cluster<'a> {
    /// The cluster, once it has recovered from earlier faults.
    pub(super) async fn when_whole(backends: &'a Stack) -> Result<Self> {
        let nodes = Nodes::of(&backends.env().redis_url)?;
        let is_whole = comes_true(WAIT_TIMEOUT, || nodes.are_whole()).await;
        ensure!(is_whole, "the Redis Cluster is not whole again");
        Ok(Self { backends, nodes })
    }

    /// One of the masters.
    pub(super) async fn master(&self, choice: usize) -> Result<Node> {
        let masters = self.nodes.masters().await?;
        masters.get(choice % masters.len().max(1)).cloned().context("a cluster has masters")
    }

    /// `kill -9` of these; the stack's keeper starts them again at once.
    pub(super) async fn kill(&self, nodes: &[Node]) -> Result<Instant> {
        let env = self.backends.env();
        let pids = nodes.iter().map(|node| node.pid(&env)).collect::<Result<Vec<_>>>()?;
        for pid in &pids {
            self.backends.kill(*pid, Signal::SIGKILL)?;
        }
        let struck = Instant::now();
        self.ensure_restarted(&pids).await?;
        Ok(struck)
    }

    /// `kill -9` of all of them.
    pub(super) async fn kill_all(&self) -> Result<Instant> {
        self.kill(self.nodes.all()).await
    }

    /// `kill -9` of a master that is not restarted before its replica has taken over.
    pub(super) async fn lose(&self, master: &Node) -> Result<Instant> {
        let pid = master.pid(&self.backends.env())?;
        let restarts_paused = RestartsPaused::new(self.backends)?;
        self.backends.kill(pid, Signal::SIGKILL)?;
        let struck = Instant::now();
        self.ensure_replaced(master).await?;
        drop(restarts_paused);
        self.ensure_restarted(&[pid]).await?;
        Ok(struck)
    }

    /// `kill -9` of a master and its replica, which are not restarted before `meanwhile` is over. The others serve on.
    pub(super) async fn leave_unserved(
        &self,
        master: &Node,
        meanwhile: impl Future<Output = Result<()>>,
    ) -> Result<Instant> {
        let mut dead = self.nodes.replicas_of(master).await?;
        dead.push(master.clone());
        self.require_full_coverage("no").await?;
        let env = self.backends.env();
        let pids = dead.iter().map(|node| node.pid(&env)).collect::<Result<Vec<_>>>()?;
        let restarts_paused = RestartsPaused::new(self.backends)?;
        for pid in &pids {
            self.backends.kill(*pid, Signal::SIGKILL)?;
        }
        let outcome = meanwhile.await;
        drop(restarts_paused);
        let over = Instant::now();
        self.ensure_restarted(&pids).await?;
        self.require_full_coverage("yes").await?;
        outcome.map(|()| over)
    }

    async fn require_full_coverage(&self, setting: &str) -> Result<()> {
        for node in self.nodes.all() {
            let words = ["CONFIG", "SET", "cluster-require-full-coverage", setting];
            // One that was started just now does not answer yet.
            let is_set = comes_true(WAIT_TIMEOUT, || async { node.tell(&words).await.is_ok() }).await;
            ensure!(is_set, "a node of Redis does not take its setting");
        }
        Ok(())
    }

    /// A master that stands still until its replica has taken over, and then briefly believes that nothing happened.
    pub(super) async fn freeze(&self, master: &Node) -> Result<Instant> {
        let pid = master.pid(&self.backends.env())?;
        self.backends.kill(pid, Signal::SIGSTOP)?;
        sleep(FROZEN).await;
        let replaced = self.ensure_replaced(master).await;
        self.backends.kill(pid, Signal::SIGCONT)?;
        replaced.map(|()| Instant::now())
    }

    /// Moves the slots of all conversations that one master serves to the others, step by step.
    pub(super) async fn migrate(&self, choice: usize) -> Result<Instant> {
        let from = self.master(choice).await?;
        let mut keys = from.channels().await?;
        for key in OTHER_KEYS {
            if from.serves(key).await? {
                keys.push(key.to_owned());
            }
        }
        let mut migrations: Vec<SlotMigration> = Vec::new();
        for (number, key) in keys.iter().enumerate() {
            let migration = SlotMigration::of(&self.nodes, key, choice + number).await?;
            // Two conversations may share a slot.
            if migrations.iter().all(|other| other.slot != migration.slot) {
                migrations.push(migration);
            }
        }
        for migration in &migrations {
            migration.begin().await?;
        }
        sleep(STEP).await;
        for migration in &migrations {
            migration.move_keys().await?;
        }
        sleep(STEP).await;
        for migration in &migrations {
            migration.finish().await?;
        }
        Ok(Instant::now())
    }

    async fn ensure_replaced(&self, master: &Node) -> Result<()> {
        let is_replaced = comes_true(WAIT_TIMEOUT, || async {
            let masters = self.nodes.masters().await.unwrap_or_default();
            masters.len() * 2 == self.nodes.all().len() && masters.iter().all(|other| other.place != master.place)
        });
        ensure!(is_replaced.await, "no replica took over from a master that is gone");
        Ok(())
    }

    async fn ensure_restarted(&self, pids: &[i32]) -> Result<()> {
        let restarted = comes_true(WAIT_TIMEOUT, || async {
            let now = self.backends.env().redis_node_pids;
            pids.iter().all(|pid| !now.contains(pid))
        });
        ensure!(restarted.await, "nodes of Redis were not started again: {pids:?}");
        Ok(())
    }
}
