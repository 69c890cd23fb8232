//! What is done to a master that Sentinels watch, and to the Sentinels.

use anyhow::{Result, ensure};
use stack::{Signal, Stack, StackEnv};
use tokio::time::{Instant, sleep};

use super::comes_true;
use super::timing::{FROZEN, WAIT_TIMEOUT};
use crate::cluster::{Node, RestartsPaused};
use crate::sentinels::Sentinels;

/// The servers and Sentinels of a stack.
pub(super) struct Failover<'a> {
    backends: &'a Stack,
    sentinels: Sentinels,
}

impl<'a> Failover<'a> {
    /// Once they have recovered from earlier faults.
    pub(super) async fn when_whole(backends: &'a Stack) -> Result<Self> {
        let sentinels = Sentinels::of(&backends.env())?;
        let is_whole = comes_true(WAIT_TIMEOUT, || sentinels.are_whole()).await;
        ensure!(is_whole, "the servers of Redis and their Sentinels are not well again");
        Ok(Self { backends, sentinels })
    }

    /// `kill -9` of the master; the stack's keeper starts it again at once.
    pub(super) async fn kill_master(&self) -> Result<Instant> {
        let pid = self.sentinels.master().await?.pid(&self.backends.env())?;
        self.kill(&[pid], |env| &env.redis_node_pids).await
    }

    /// `kill -9` of the master and its replicas.
    pub(super) async fn kill_servers(&self) -> Result<Instant> {
        self.kill(&self.backends.env().redis_node_pids, |env| &env.redis_node_pids).await
    }

    /// `kill -9` of all Sentinels.
    pub(super) async fn kill_sentinels(&self) -> Result<Instant> {
        self.kill(&self.backends.env().sentinel_pids, |env| &env.sentinel_pids).await
    }

    /// `kill -9` of the master, which is not restarted before a replica has taken over.
    pub(super) async fn lose_master(&self) -> Result<Instant> {
        let master = self.sentinels.master().await?;
        let pid = master.pid(&self.backends.env())?;
        let restarts_paused = RestartsPaused::new(self.backends)?;
        self.backends.kill(pid, Signal::SIGKILL)?;
        let struck = Instant::now();
        self.ensure_replaced(&master).await?;
        drop(restarts_paused);
        self.ensure_restarted(&[pid], |env| &env.redis_node_pids).await?;
        Ok(struck)
    }

    /// A master that stands still until a replica has taken over, and then believes for a while that nothing happened.
    pub(super) async fn freeze_master(&self) -> Result<Instant> {
        let master = self.sentinels.master().await?;
        let pid = master.pid(&self.backends.env())?;
        self.backends.kill(pid, Signal::SIGSTOP)?;
        sleep(FROZEN).await;
        let replaced = self.ensure_replaced(&master).await;
        self.backends.kill(pid, Signal::SIGCONT)?;
        replaced.map(|()| Instant::now())
    }

    /// A planned failover.
    pub(super) async fn replace_master(&self) -> Result<Instant> {
        let master = self.sentinels.master().await?;
        self.sentinels.fail_over().await?;
        self.ensure_replaced(&master).await?;
        Ok(Instant::now())
    }

    async fn kill(&self, pids: &[i32], now: impl Fn(&StackEnv) -> &Vec<i32>) -> Result<Instant> {
        for pid in pids {
            self.backends.kill(*pid, Signal::SIGKILL)?;
        }
        let struck = Instant::now();
        self.ensure_restarted(pids, now).await?;
        Ok(struck)
    }

    async fn ensure_replaced(&self, master: &Node) -> Result<()> {
        let is_replaced = comes_true(WAIT_TIMEOUT, || async {
            self.sentinels.master().await.is_ok_and(|named| named.place != master.place)
        });
        ensure!(is_replaced.await, "the Sentinels did not replace the master");
        Ok(())
    }

    async fn ensure_restarted(&self, pids: &[i32], now: impl Fn(&StackEnv) -> &Vec<i32>) -> Result<()> {
        let is_restarted = comes_true(WAIT_TIMEOUT, || async {
            let env = self.backends.env();
            pids.iter().all(|pid| !now(&env).contains(pid))
        });
        ensure!(is_restarted.await, "processes of Redis were not started again: {pids:?}");
        Ok(())
    }
}
