//! All servers of Redis. Each command goes to the one that serves its key.

use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike, LuaInterface};
use fred::types::config::Server;
use fred::types::scripts::Script;
use fred::types::{FromValue, Key, Value};
use parking_lot::RwLock;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::health::{ConnectionHealth, is_redis_reply, is_unsent};
use super::node::{MasterWatch, Node, NodeEvent, NodeKind};
use super::slot_map_reader::SlotMapReader;
use super::{ClientOptions, SlotMap};
use crate::kit::redis::Topology;
use crate::kit::shutdown::Shutdown;

/// How often a command that was refused by a node that does not serve its slot is sent again.
const MAX_REDIRECTIONS: usize = 5;
/// A slot that is on its way from one node to another: before the next attempt.
const MIGRATION_RETRY_DELAY: Duration = Duration::from_millis(10);
/// Without a sign of life for so long, Redis counts as down.
const LIVENESS_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a command was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoutingError {
    /// No node has answered yet with the map of the cluster.
    #[error("the nodes of the cluster are not known yet")]
    MapUnknown,
    /// No node serves the slot of the key.
    #[error("no node of the cluster serves the slot")]
    SlotUnassigned,
    /// The node that serves it does not answer at the moment.
    #[error("the node {0} does not answer")]
    NodeDown(Server),
    /// The Sentinels name no master that answers.
    #[error("no master that the Sentinels name answers")]
    NoMaster,
}

impl From<RoutingError> for Error {
    fn from(unserved: RoutingError) -> Self {
        Self::new(ErrorKind::IO, unserved.to_string())
    }
}

/// A single server, the master that Sentinels name, or the masters of a cluster. Clones are one.
///
/// What one node of a cluster does, or fails to do, concerns the keys that it serves and no others: each has a connection of
/// its own. A node that does not answer within a second is down: what is under way to it fails, and nothing is sent to it, so
/// nothing waits for it, until it answers again or another one has taken its place. The same holds for the master of Sentinels.
#[derive(Clone)]
pub struct RedisNodes(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) settings: ClientOptions,
    /// Of a single server: itself.
    pub(super) only: Option<Arc<Node>>,
    /// Of Sentinels: the master, while it answers. Of a single server: itself.
    pub(super) master: watch::Sender<Option<Arc<Node>>>,
    /// Of a cluster.
    pub(super) cluster: RwLock<Cluster>,
    pub(super) map_reader: SlotMapReader,
    /// The map is to be read again.
    pub(super) refresh_requested: Notify,
    /// How often it was tried to read it. Of Sentinels: how many masters there were.
    pub(super) refreshes: watch::Sender<u64>,
    pub(super) health: watch::Sender<ConnectionHealth>,
}

#[derive(Default)]
pub(super) struct Cluster {
    pub(super) slots: Option<Arc<SlotMap>>,
    /// In the order of the masters.
    pub(super) nodes: Vec<Arc<Node>>,
}

impl RedisNodes {
    /// Connects in the background, until `shutdown`: Redis may come later, or go and come back. With the shutdown all
    /// connections end.
    ///
    /// # Errors
    /// When the client library refuses its configuration.
    pub fn start(settings: ClientOptions, shutdown: &Shutdown) -> Result<Self, Error> {
        let (mut only, mut connected) = (None, None);
        let sentinels = settings.sentinels().cloned();
        if settings.topology() == Topology::Single && sentinels.is_none() {
            let server = settings.servers().into_iter().next();
            let server = server.ok_or_else(|| Error::new(ErrorKind::Config, "no server"))?;
            let redis = settings.connect(server.clone())?;
            only = Some(Arc::new(Node::new(server, redis.client.clone(), NodeKind::Single)));
            connected = Some(redis);
        }
        let nodes = Self(Arc::new(Inner {
            map_reader: SlotMapReader::new(settings.clone()),
            settings,
            master: watch::Sender::new(only.clone()),
            only,
            cluster: RwLock::default(),
            refresh_requested: Notify::new(),
            refreshes: watch::Sender::new(0),
            health: watch::Sender::new(ConnectionHealth::new()),
        }));
        let kept = nodes.clone();
        shutdown.spawn_until("redis watch", async move {
            match (&kept.0.only, connected, sentinels) {
                (Some(only), Some(redis), _) => only.run(redis, |news| kept.on_event(news)).await,
                (_, _, Some(sentinels)) => kept.run_sentinels(sentinels).await,
                _ => kept.run_cluster().await,
            }
        });
        Ok(nodes)
    }

    /// What Redis is.
    #[must_use]
    pub fn topology(&self) -> Topology {
        self.0.settings.topology()
    }

    /// Where the server that serves all keys is, from now on.
    #[must_use]
    pub fn master(&self) -> MasterWatch {
        MasterWatch::new(self.0.master.subscribe())
    }

    fn has_sentinels(&self) -> bool {
        self.0.settings.sentinels().is_some()
    }

    /// What Redis may have lost, from now on.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<ConnectionHealth> {
        self.0.health.subscribe()
    }

    /// Whether every server has answered within the last seconds.
    #[must_use]
    pub fn is_up(&self) -> bool {
        if self.has_sentinels() {
            return self.0.master.borrow().as_ref().is_some_and(|master| master.is_up());
        }
        let is_live = self.0.health.borrow().verified_at.elapsed() < LIVENESS_TIMEOUT;
        is_live
            && match &self.0.only {
                Some(only) => only.client.is_connected(),
                None => {
                    let cluster = self.0.cluster.read();
                    cluster.slots.is_some() && cluster.nodes.iter().all(|node| node.is_up())
                }
            }
    }

    /// Who serves what, as the cluster said last. `None` without a cluster, and before any node has said it.
    #[must_use]
    pub fn slots(&self) -> Option<Arc<SlotMap>> {
        self.0.cluster.read().slots.clone()
    }

    /// The client of the server that serves a key.
    ///
    /// # Errors
    /// [`RoutingError`]
    pub fn client_for(&self, key: impl AsRef<[u8]>) -> Result<Client, RoutingError> {
        self.node_for(key.as_ref()).map(|node| node.client.clone())
    }

    pub(super) fn node_for(&self, key: &[u8]) -> Result<Arc<Node>, RoutingError> {
        if let Some(only) = &self.0.only {
            return Ok(only.clone());
        }
        if self.has_sentinels() {
            return self.0.master.borrow().clone().filter(|master| master.is_usable()).ok_or(RoutingError::NoMaster);
        }
        let cluster = self.0.cluster.read();
        let slots = cluster.slots.as_ref().ok_or(RoutingError::MapUnknown)?;
        let node =
            slots.owner_index(key).and_then(|owner| cluster.nodes.get(owner)).ok_or(RoutingError::SlotUnassigned)?;
        match node.is_usable() {
            true => Ok(node.clone()),
            false => Err(RoutingError::NodeDown(node.server.clone())),
        }
    }

    /// Asks the server that serves `key`, and again when it does not serve it any more, and therefore has done nothing. What may
    /// have been done is never done again.
    ///
    /// # Errors
    /// As `command`, or that no node serves the key, without a wait.
    pub async fn execute<T, F>(&self, key: impl AsRef<[u8]>, command: impl Fn(Client) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        if let Some(only) = &self.0.only {
            return command(only.client.clone()).await;
        }
        if self.has_sentinels() {
            return Box::pin(self.execute_on_master(command)).await;
        }
        let key = key.as_ref();
        let mut refused = None;
        for _ in 0..MAX_REDIRECTIONS {
            let client = match self.client_for(key) {
                Ok(client) => client,
                // At the start. The first map arrives shortly.
                Err(RoutingError::MapUnknown) => {
                    self.refresh().await;
                    self.client_for(key)?
                }
                Err(unserved) => {
                    self.request_refresh();
                    return Err(unserved.into());
                }
            };
            let error = match command(client).await {
                Err(error) => error,
                done => return done,
            };
            match Redirection::from_error(&error) {
                None => {
                    if !is_redis_reply(&error) || *error.kind() == ErrorKind::Cluster {
                        self.request_refresh();
                    }
                    return Err(error);
                }
                Some(Redirection::Moved) if self.apply_moved(key, error.details()) => self.request_refresh(),
                // To a node that is new to us, or one that is no node any more.
                Some(Redirection::Moved | Redirection::NotSent) => self.refresh().await,
                Some(Redirection::Migrating) => sleep(MIGRATION_RETRY_DELAY).await,
            }
            refused = Some(error);
        }
        let details = refused.map_or_else(String::new, |error| error.details().to_owned());
        Err(Error::new(ErrorKind::Routing, details))
    }

    /// Nothing is sent twice, and what is under way fails when the master is lost. At the start commands wait for the first
    /// connection, as they do for a single server.
    async fn execute_on_master<T, F>(&self, command: impl FnOnce(Client) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut connections = self.0.refreshes.subscribe();
        if *connections.borrow_and_update() == 0 {
            let _timed_out = timeout(self.0.settings.timeout(), connections.changed()).await;
        }
        let master = self.node_for(&[])?;
        let done = tokio::select! {
            done = command(master.client.clone()) => done,
            () = master.ended() => Err(RoutingError::NoMaster.into()),
        };
        if let Err(error) = &done
            && error.details().starts_with("READONLY")
        {
            // It is a replica now, which its next heartbeat shows.
            self.request_refresh();
        }
        done
    }

    /// Runs a script on keys that share a slot.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub async fn run_script<T: FromValue>(
        &self,
        script: &Script,
        keys: impl IntoIterator<Item = impl Into<Key>>,
        args: impl IntoIterator<Item = impl Into<Value>>,
    ) -> Result<T, Error> {
        let keys: Vec<Key> = keys.into_iter().map(Into::into).collect();
        let args: Vec<Value> = args.into_iter().map(Into::into).collect();
        let key = keys.first().cloned().unwrap_or_else(|| Key::from_static_str(""));
        let (keys, args) = (&keys, &args);
        let answer: Value = self
            .execute(key.as_bytes(), |client| async move {
                match client.evalsha(script.sha1().clone(), keys.clone(), args.clone()).await {
                    // The node has never seen it, or has restarted since. Now it has.
                    Err(error) if Error::details(&error).starts_with("NOSCRIPT") => {
                        client.eval(script.lua().cloned().unwrap_or_default(), keys.clone(), args.clone()).await
                    }
                    done => done,
                }
            })
            .await?;
        answer.convert()
    }

    /// Has the map read again, or the master asked whether it still is one, soon.
    pub(super) fn request_refresh(&self) {
        self.0.refresh_requested.notify_one();
    }

    /// Waits until the map was read again, or could not be.
    async fn refresh(&self) {
        let mut readings = self.0.refreshes.subscribe();
        self.request_refresh();
        let _timed_out = timeout(self.0.settings.timeout(), readings.changed()).await;
    }

    /// Whether a redirection names a node that is known.
    fn apply_moved(&self, key: &[u8], redirection: &str) -> bool {
        let mut cluster = self.0.cluster.write();
        cluster.slots.as_mut().is_some_and(|slots| Arc::make_mut(slots).apply_moved(key, redirection))
    }

    /// A node has something to say that concerns all.
    pub(super) fn on_event(&self, news: NodeEvent) {
        match news {
            NodeEvent::ConnectionLost(at) => self.0.health.send_modify(|health| {
                health.generation += 1;
                health.since = at;
            }),
            NodeEvent::Verified => {
                let verified_at = match &*self.0.master.borrow() {
                    Some(only) => Some(only.verified_at()),
                    None => {
                        let cluster = self.0.cluster.read();
                        cluster.nodes.iter().filter(|node| node.is_usable()).map(|node| node.verified_at()).min()
                    }
                };
                if let Some(verified_at) = verified_at {
                    self.0.health.send_modify(|health| health.verified_at = health.verified_at.max(verified_at));
                }
            }
        }
    }
}

/// Why a command was certainly not done where it was sent.
enum Redirection {
    /// Another node serves the slot.
    Moved,
    /// The key is at the node that will serve the slot.
    Migrating,
    /// There is no connection to that node any more.
    NotSent,
}

impl Redirection {
    fn from_error(error: &Error) -> Option<Self> {
        match (error.kind(), error.details().split_whitespace().next()?) {
            (ErrorKind::Cluster, "MOVED") => Some(Self::Moved),
            (ErrorKind::Cluster, "ASK") => Some(Self::Migrating),
            _ => is_unsent(error).then_some(Self::NotSent),
        }
    }
}
