//! Nodes of Redis, probes of nodes and event logs, and notices to sockets whose events wait.

use std::sync::Arc;

use bytes::Bytes;
use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::KeysInterface;
use fred::types::{Expiration, Value};
use futures_util::future::join_all;
use shared::contract::event;
use shared::contract::redis::keys::{self, Channel};
use shared::kit::redis::SlotMap;
use uuid::Uuid;

use super::{Broker, PublishRejection};

/// The node that serves a channel. A single server is one node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node(Arc<str>);

impl std::fmt::Display for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which node serves which channel, at one moment. A single server serves all. Clones share the map.
#[derive(Debug, Clone, Default)]
pub struct NodeMap(Option<Arc<SlotMap>>);

impl NodeMap {
    /// The node of a channel. Unassigned channels share a placeholder node.
    #[must_use]
    pub fn node_of(&self, channel: &Channel) -> Node {
        let name = self.0.as_ref().and_then(|slots| slots.owner_name(channel.as_str().as_bytes()));
        Node(name.unwrap_or_else(|| "redis".into()))
    }
}

impl Broker {
    /// The map that the cluster reported last.
    #[must_use]
    pub fn node_map(&self) -> NodeMap {
        NodeMap(self.redis.slots())
    }

    /// Writes a short-lived key to check that the node of a channel accepts writes.
    ///
    /// # Errors
    /// The rejection.
    pub async fn probe(&self, channel: &Channel) -> Result<(), PublishRejection> {
        let key = channel.probe_key();
        let expiry = Some(Expiration::PX(1));
        let (name, expiry) = (&key, &expiry);
        let write = |client: Client| async move { client.set::<(), _, _>(name, "", expiry.clone(), None, false).await };
        let written = self.redis.execute(name, write).await;
        written.map_err(|error| PublishRejection::from(&error))
    }

    /// Notifies sockets of these conversations that their events wait, or were all published. A node that is full still
    /// publishes; sockets of a dead node have lost it themselves.
    pub async fn announce(&self, by: Uuid, channels: &[Channel], is_over: bool) {
        let payload = Bytes::from(event::publish_status_payload(by, is_over));
        let sent = channels.iter().map(|channel| {
            self.run::<Value>(&self.announce_script, vec![channel.as_str().to_owned()], vec![payload.clone()])
        });
        for result in join_all(sent).await {
            if let Err(error) = result {
                tracing::debug!(error = error.details(), "sockets not notified of waiting events");
            }
        }
    }

    /// Renames a key of another type that has the name of a conversation's event log. Returns whether there was one.
    ///
    /// # Errors
    /// Errors of Redis.
    pub async fn move_wrong_type_log(&self, channel: &Channel) -> Result<bool, Error> {
        let args = vec![Bytes::from_static(b"stream"), keys::moved_suffix().into()];
        let moved: Vec<String> = self.run(&self.rename_script, vec![channel.log_key()], args).await?;
        metrics::counter!("ehr_chat_redis_keys_moved_total", "key" => "event_log").increment(moved.len() as u64);
        Ok(!moved.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fred::types::config::Server;

    #[test]
    fn node_map_names_master_of_every_slot() {
        let node = |port: i64| Value::Array(vec!["10.0.0.1".into(), Value::Integer(port), "id".into()]);
        let range = |first: i64, last: i64, port| {
            Value::Array(vec![Value::Integer(first), Value::Integer(last), node(port), node(9)])
        };
        let answer = Value::Array(vec![range(0, 8_191, 1), range(8_192, 16_383, 2)]);
        let slots = SlotMap::parse(&answer, &Server::new("10.0.0.1", 1)).unwrap();
        let map = NodeMap(Some(Arc::new(slots.clone())));
        let channel = |n| Channel::new(&"loc1".parse().unwrap(), Uuid::from_u128(n));
        for n in 0..100 {
            let index = slots.owner_index(channel(n).as_str().as_bytes()).unwrap();
            assert_eq!(map.node_of(&channel(n)).to_string(), format!("10.0.0.1:{}", index + 1));
        }
        assert_eq!(NodeMap::default().node_of(&channel(1)), NodeMap::default().node_of(&channel(2)));
    }
}
