//! Follows the master that Redis Sentinels name.
//!
//! | module | owns |
//! | --- | --- |
//! | `view` | [`view::SentinelView`]: what one Sentinel says, and which of several views counts |
//! | `monitor` | [`monitor::SentinelMonitor`]: a connection to each Sentinel |
//! | `master` | connects to the named server, and watches that it is and stays the master |
//! | `replication` | which of the master's writes its replicas have |
//!
//! A connection to the master never comes back by itself. When it ends, a Sentinel must name the server again, and the server
//! must call itself a master, before it gets a command: an old master that returns may not know yet that it was replaced.

mod master;
mod monitor;
mod replication;
mod view;

use std::sync::Arc;
use std::time::Duration;

use fred::types::config::Server;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::RedisNodes;
use super::connection::{ManagedClient, SentinelOptions};
use super::node::{Node, NodeEvent, NodeKind};
use crate::kit::telemetry::log_throttle::LogThrottle;
use monitor::SentinelMonitor;
use view::SentinelView;

/// Between two attempts to connect to the named server, unless a Sentinel names another one sooner.
const RETRY_DELAY: Duration = Duration::from_millis(200);

impl RedisNodes {
    /// Follows the master. Never returns.
    pub(super) async fn run_sentinels(&self, options: Arc<SentinelOptions>) {
        let monitor = SentinelMonitor::new(options);
        tokio::select! {
            () = monitor.run() => {}
            () = self.follow_master(&monitor) => {}
        }
    }

    async fn follow_master(&self, monitor: &SentinelMonitor) {
        let mut announced = monitor.announced();
        let unusable = LogThrottle::default();
        loop {
            let server = named_server(&mut announced).await;
            let connected = tokio::select! {
                connected = master::connect(&self.0.settings, &server) => connected,
                () = names_another(&mut announced, &server) => continue,
            };
            match connected {
                Ok(redis) => {
                    self.serve_from(&server, redis, &mut announced).await;
                    monitor.ask_again();
                }
                Err(error) => {
                    if let Some(times) = unusable.record(1) {
                        tracing::warn!(node = %server, %error, times, "the server that the Sentinels name cannot be used");
                    }
                    tokio::select! {
                        () = sleep(RETRY_DELAY) => {}
                        () = names_another(&mut announced, &server) => {}
                    }
                }
            }
        }
    }

    /// Gives the master all commands, until it is lost or a Sentinel names another one.
    async fn serve_from(
        &self,
        server: &Server,
        redis: ManagedClient,
        announced: &mut watch::Receiver<Option<SentinelView>>,
    ) {
        let node = Arc::new(Node::new(server.clone(), redis.client.clone(), NodeKind::SentinelMaster));
        node.mark_up();
        let is_first = *self.0.refreshes.borrow() == 0;
        self.0.master.send_replace(Some(node.clone()));
        self.0.refreshes.send_modify(|connections| *connections += 1);
        if !is_first {
            // It may lack what the last one took.
            self.on_event(NodeEvent::ConnectionLost(Instant::now()));
        }
        tracing::info!(node = %server, "connected to the Redis master that the Sentinels name");
        tokio::select! {
            why = master::watch(&node, &self.0.refresh_requested, || self.on_event(NodeEvent::Verified)) => {
                tracing::warn!(node = %server, %why, "the Redis master is lost, asking the Sentinels");
            }
            () = names_another(announced, server) => {
                tracing::info!(node = %server, "the Sentinels name another Redis master");
            }
        }
        node.retire();
        self.0.master.send_replace(None);
        self.on_event(NodeEvent::ConnectionLost(Instant::now()));
        // What is under way on the old connection fails now.
        drop(redis);
    }
}

/// The server that a Sentinel names now. Waits until one answers.
async fn named_server(announced: &mut watch::Receiver<Option<SentinelView>>) -> Server {
    match announced.wait_for(Option::is_some).await.ok().and_then(|view| view.as_ref().map(|view| view.master.clone()))
    {
        Some(server) => server,
        // The monitor is gone, and this task with it.
        None => std::future::pending().await,
    }
}

/// Waits until a Sentinel names another server. Silence of all Sentinels names none.
async fn names_another(announced: &mut watch::Receiver<Option<SentinelView>>, server: &Server) {
    let is_another = |view: &Option<SentinelView>| view.as_ref().is_some_and(|view| view.master != *server);
    if announced.wait_for(is_another).await.is_err() {
        std::future::pending::<()>().await;
    }
}
