//! One server: its heartbeat, and the replacement of connections that are silently broken. And where it is, if it serves all keys.

use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike, EventInterface};
use fred::types::config::Server;
use parking_lot::Mutex;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::connection::ManagedClient;
use super::health::is_redis_reply;

/// How often a single server is asked whether it is alive.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// The same for a node of a cluster: others are not to wait for what is sent to one that is dead.
pub(super) const NODE_HEARTBEAT_INTERVAL: Duration = Duration::from_millis(250);
/// A node of a cluster that does not answer for so long is down until it does.
pub(super) const HEARTBEAT_TIMEOUT: Duration = Duration::from_millis(750);
/// Between two looks whether there is a first connection.
const CONNECT_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How a node is doing. It is not used for a single server. The master of Sentinels is up until it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NodeState {
    /// It was not connected yet. Commands wait for that.
    Starting,
    /// It answered the last heartbeat.
    Up,
    /// It does not answer. Nothing is sent to it, and nothing waits for it.
    Down,
    /// It serves nothing any more, and has no connection.
    Ended,
}

/// Which rules a node follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NodeKind {
    /// It is all there is: commands wait for it.
    Single,
    /// It is one of several, which do not wait for each other.
    ClusterMaster,
    /// Sentinels have named it. It never comes back by itself: they may have named another one meanwhile.
    SentinelMaster,
}

/// What concerns all nodes.
#[derive(Debug, Clone, Copy)]
pub(super) enum NodeEvent {
    /// What the node was given before this may be lost.
    ConnectionLost(Instant),
    /// It has answered.
    Verified,
}

pub(super) struct Node {
    pub(super) server: Server,
    pub(super) client: Client,
    kind: NodeKind,
    state: watch::Sender<NodeState>,
    verified_at: Mutex<Instant>,
}

impl Node {
    pub(super) fn new(server: Server, client: Client, kind: NodeKind) -> Self {
        let (state, verified_at) = (watch::Sender::new(NodeState::Starting), Mutex::new(Instant::now()));
        Self { server, client, kind, state, verified_at }
    }

    pub(super) fn kind(&self) -> NodeKind {
        self.kind
    }

    /// Whether a command may be sent to it.
    pub(super) fn is_usable(&self) -> bool {
        matches!(*self.state.borrow(), NodeState::Starting | NodeState::Up)
    }

    /// Whether it answers.
    pub(super) fn is_up(&self) -> bool {
        *self.state.borrow() == NodeState::Up
    }

    /// It answered to something that was asked then.
    pub(super) fn verified_at(&self) -> Instant {
        *self.verified_at.lock()
    }

    /// What it was given before this time is safe.
    pub(super) fn verify(&self, at: Instant) {
        *self.verified_at.lock() = at;
    }

    /// It serves nothing any more.
    pub(super) fn retire(&self) {
        self.state.send_replace(NodeState::Ended);
    }

    /// Waits until it has [ended](Self::retire).
    pub(super) async fn ended(&self) {
        let mut state = self.state.subscribe();
        let _gone = state.wait_for(|state| *state == NodeState::Ended).await;
    }

    /// Watches its connection until it has [ended](Self::retire); the connection ends with this.
    pub(super) async fn run(&self, redis: ManagedClient, hear: impl Fn(NodeEvent)) {
        tokio::select! {
            () = self.watch(redis, hear) => {}
            () = self.ended() => {}
        }
    }

    async fn watch(&self, mut redis: ManagedClient, hear: impl Fn(NodeEvent)) {
        let mut reconnected = redis.client.reconnect_rx();
        self.wait_for_first_connection(&mut redis).await;
        // It replaces none.
        drain_events(&mut reconnected);
        let every = if self.is_cluster_node() { NODE_HEARTBEAT_INTERVAL } else { HEARTBEAT_INTERVAL };
        loop {
            let asked = Instant::now();
            let pinged = self.ping(&redis.client).await;
            if drain_events(&mut reconnected) {
                hear(NodeEvent::ConnectionLost(asked));
            }
            match pinged {
                Err(error) if !is_redis_reply(&error) => self.on_failed_ping(&mut redis, &error, &hear).await,
                // One that is loading, say, will take what it is given, or say why not. It proves nothing.
                Err(_) => self.mark_up(),
                Ok(()) => {
                    self.verify(asked);
                    self.mark_up();
                    hear(NodeEvent::Verified);
                }
            }
            sleep(every).await;
        }
    }

    fn is_cluster_node(&self) -> bool {
        self.kind == NodeKind::ClusterMaster
    }

    async fn wait_for_first_connection(&self, redis: &mut ManagedClient) {
        let since = Instant::now();
        while !redis.client.is_connected() {
            if self.is_cluster_node() && since.elapsed() >= HEARTBEAT_TIMEOUT && self.mark_down() {
                // What waits for it has waited long enough.
                redis.reconnect().await;
            }
            sleep(CONNECT_POLL_INTERVAL).await;
        }
    }

    async fn ping(&self, client: &Client) -> Result<(), Error> {
        if !self.is_cluster_node() {
            return client.ping(None).await;
        }
        if self.is_usable() {
            if !client.is_connected() {
                return Err(Error::new(ErrorKind::IO, "the connection is broken"));
            }
            let silent = |_| Error::new(ErrorKind::Timeout, "it is silent");
            return timeout(HEARTBEAT_TIMEOUT, client.ping(None)).await.map_err(silent)?;
        }
        // While it connects. That may take longer.
        client.ping(None).await
    }

    async fn on_failed_ping(&self, redis: &mut ManagedClient, error: &Error, hear: &impl Fn(NodeEvent)) {
        let is_silent = *error.kind() == ErrorKind::Timeout;
        if !self.is_cluster_node() {
            // One that knows that it is cut off is on its way back already.
            if is_silent && redis.client.is_connected() {
                tracing::warn!("Redis does not answer, reconnecting");
                redis.reconnect().await;
            }
        } else if self.mark_down() {
            tracing::warn!(node = %self.server, error = error.details(), "a node of Redis does not answer: its keys wait for it alone");
            hear(NodeEvent::ConnectionLost(Instant::now()));
            // What is under way to it fails now, and what waits for it is never sent.
            redis.reconnect().await;
        } else if is_silent {
            redis.reconnect().await;
        }
    }

    /// Returns whether it was not down before.
    fn mark_down(&self) -> bool {
        self.state.send_if_modified(|state| match state {
            NodeState::Starting | NodeState::Up => {
                *state = NodeState::Down;
                true
            }
            NodeState::Down | NodeState::Ended => false,
        })
    }

    pub(super) fn mark_up(&self) {
        let mut was_down = false;
        self.state.send_if_modified(|state| match state {
            NodeState::Starting | NodeState::Down => {
                was_down = *state == NodeState::Down;
                *state = NodeState::Up;
                true
            }
            NodeState::Up | NodeState::Ended => false,
        });
        if was_down {
            tracing::info!(node = %self.server, "a node of Redis answers again");
        }
    }
}

/// Follows the server that serves all keys. Of a cluster it never names one.
pub struct MasterWatch(watch::Receiver<Option<Arc<Node>>>);

impl MasterWatch {
    pub(super) fn new(master: watch::Receiver<Option<Arc<Node>>>) -> Self {
        Self(master)
    }

    /// The server. With Sentinels, waits until they name one that answers as a master.
    pub async fn server(&mut self) -> Server {
        match self.0.wait_for(Option::is_some).await.ok().and_then(|node| node.as_ref().map(|node| node.server.clone()))
        {
            Some(server) => server,
            // The connections have ended with the shutdown.
            None => std::future::pending().await,
        }
    }

    /// Waits until this server is lost, or another one has taken its place.
    pub async fn replaced(&mut self, server: &Server) {
        let is_another = |node: &Option<Arc<Node>>| node.as_ref().is_none_or(|node| node.server != *server);
        if self.0.wait_for(is_another).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Whether the receiver held any event. Removes all of them.
fn drain_events<T: Clone>(receiver: &mut Receiver<T>) -> bool {
    let mut is_drained = false;
    while !matches!(receiver.try_recv(), Err(TryRecvError::Empty | TryRecvError::Closed)) {
        is_drained = true;
    }
    is_drained
}
