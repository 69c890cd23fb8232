//! A connection of its own for one key, whose reads may block: nothing else waits behind them.

use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error, ErrorKind};

use super::connection::{ClientOptions, ManagedClient};
use super::health::is_redis_reply;
use super::node::{Node, NodeKind};
use super::{RedisNodes, RoutingError};

/// A connection to the server that serves a key, wherever that is now.
pub struct DedicatedConnection {
    nodes: RedisNodes,
    key: &'static str,
    settings: ClientOptions,
    connected: Option<(Arc<Node>, ManagedClient)>,
}

impl DedicatedConnection {
    /// No connection yet. A command may take `timeout`, which is to be longer than it may block.
    #[must_use]
    pub fn new(nodes: &RedisNodes, key: &'static str, timeout: Duration) -> Self {
        Self { nodes: nodes.clone(), key, settings: nodes.0.settings.with_timeout(timeout), connected: None }
    }

    /// The client of the server that serves the key now.
    ///
    /// # Errors
    /// That there is none which answers.
    pub fn client(&mut self) -> Result<Client, Error> {
        let node = match self.nodes.node_for(self.key.as_bytes()) {
            Ok(node) => node,
            Err(unserved) => {
                if unserved != RoutingError::MapUnknown {
                    self.nodes.request_refresh();
                }
                return Err(unserved.into());
            }
        };
        if let Some((known, redis)) = &self.connected
            && Arc::ptr_eq(known, &node)
        {
            return Ok(redis.client.clone());
        }
        let redis = match node.kind() {
            // It ends with the node's own connection, and never comes back to a server that is no master any more.
            NodeKind::SentinelMaster => self.settings.connect_unmanaged(node.server.clone())?,
            NodeKind::Single | NodeKind::ClusterMaster => self.settings.connect(node.server.clone())?,
        };
        let client = redis.client.clone();
        self.connected = Some((node, redis));
        Ok(client)
    }

    /// A command has failed. One that was not answered may have been sent on a connection that was cut without a word: the client
    /// library does not watch those that block, and would use it for ever.
    pub fn record_failure(&mut self, error: &Error) {
        self.nodes.request_refresh();
        let is_unmanaged = self.connected.as_ref().is_some_and(|(node, _)| node.kind() == NodeKind::SentinelMaster);
        if *error.kind() == ErrorKind::Timeout || (is_unmanaged && !is_redis_reply(error)) {
            self.connected = None;
        }
    }
}
