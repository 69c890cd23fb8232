//! Whether Redis would take again what it has refused: of a node and of a conversation's log.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use fred::error::ErrorKind;
use fred::prelude::*;
use fred::types::{ClusterHash, CustomCommand};
use fred::util::redis_keyslot;
use futures_util::future::{join_all, select_ok};
use shared::channel::{self, Channel, Topology};
use shared::event;
use uuid::Uuid;

use super::{Broker, Refusal};
use crate::redis::redirected;

/// The node of Redis that serves a channel. A single server is one node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node(Arc<str>);

impl std::fmt::Display for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Slots of a cluster, by its specification.
const SLOTS: usize = 16_384;

/// Which node serves what, at one moment. Of a single server it says that this serves all. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct NodeMap(Arc<Vec<(RangeInclusive<u16>, Node)>>);

impl NodeMap {
    /// Who serves a channel. Those that nobody serves are as on a node of their own.
    #[must_use]
    pub fn node_of(&self, channel: &Channel) -> Node {
        let slot = redis_keyslot(channel.as_str().as_bytes());
        let range = self.0.iter().find(|(slots, _)| slots.contains(&slot));
        range.map_or_else(|| Node("redis".into()), |(_, node)| node.clone())
    }

    /// Reads the answer to `CLUSTER SLOTS`: first slot, last slot, and the nodes, of which the first is the master.
    fn read(answer: &Value) -> Option<Self> {
        let Value::Array(ranges) = answer else { return None };
        let range = |range: &Value| {
            let Value::Array(parts) = range else { return None };
            let [first, last, Value::Array(master), ..] = parts.as_slice() else { return None };
            let [host, port, ..] = master.as_slice() else { return None };
            let slots = u16::try_from(first.as_i64()?).ok()?..=u16::try_from(last.as_i64()?).ok()?;
            let name = format!("{}:{}", host.as_string().unwrap_or_default(), port.as_i64()?);
            (usize::from(*slots.end()) < SLOTS).then_some((slots, Node(name.into())))
        };
        ranges.iter().map(range).collect::<Option<_>>().map(|ranges: Vec<_>| Self(Arc::new(ranges)))
    }
}

impl Broker {
    /// Who serves what, as the cluster said last.
    #[must_use]
    pub fn map(&self) -> NodeMap {
        self.map.lock().clone()
    }

    /// Asks the cluster who serves what; whoever answers first is right. Nothing changes when none does.
    pub async fn read_map(&self) {
        if self.topology == Topology::Single {
            return;
        }
        let nodes = self.client.active_connections().into_iter().map(|server| self.client.with_cluster_node(server));
        let ask = nodes.map(|node| {
            Box::pin(async move {
                let command = CustomCommand::new_static("CLUSTER", ClusterHash::FirstKey, false);
                let answer: Value = node.custom(command, vec!["SLOTS"]).await?;
                NodeMap::read(&answer).ok_or_else(|| Error::new(ErrorKind::Protocol, "no map of the cluster"))
            })
        });
        let ask: Vec<_> = ask.collect();
        if ask.is_empty() {
            return;
        }
        if let Ok((map, _others)) = select_ok(ask).await {
            *self.map.lock() = map;
        }
    }

    /// Whether the node that serves a channel takes what is written.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn probe(&self, channel: &Channel) -> Result<(), Refusal> {
        let key = channel.probe();
        let soon = Some(Expiration::PX(1));
        let written = redirected(|| self.client.set::<(), _, _>(&key, "", soon.clone(), None, false)).await;
        written.map_err(|error| Refusal::from(&error))
    }

    /// Tells the sockets of conversations that their events wait, or that all that waited is published. A node that is full
    /// publishes all the same; where it does not, the sockets have lost that node themselves.
    pub async fn announce(&self, by: Uuid, channels: &[Channel], is_over: bool) {
        let payload = Bytes::from(event::refused(by, is_over));
        let told = channels
            .iter()
            .map(|channel| self.run::<Value>(&self.announce, vec![channel.as_str().to_owned()], vec![payload.clone()]));
        for told in join_all(told).await {
            if let Err(error) = told {
                tracing::debug!(error = error.details(), "sockets were not told that their events wait");
            }
        }
    }

    /// Moves a key out of the way that stands where a conversation's event log should be. Returns whether there was one.
    ///
    /// # Errors
    /// As Redis has them.
    pub async fn clear_log(&self, channel: &Channel) -> Result<bool, Error> {
        let args = vec![Bytes::from_static(b"stream"), channel::moved_suffix().into()];
        let moved: Vec<String> = self.run(&self.rename, vec![channel.log()], args).await?;
        metrics::counter!("redis_keys_moved_total", "key" => "event_log").increment(moved.len() as u64);
        Ok(!moved.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_map_of_the_cluster_names_the_master_of_every_slot() {
        let node = |port: i64| Value::Array(vec!["10.0.0.1".into(), Value::Integer(port), "id".into()]);
        let range = |first: i64, last: i64, port| {
            Value::Array(vec![Value::Integer(first), Value::Integer(last), node(port), node(9)])
        };
        let map = NodeMap::read(&Value::Array(vec![range(0, 8_191, 1), range(8_192, 16_383, 2)])).unwrap();
        for n in 0..100 {
            let channel = Channel::new(&"loc1".parse().unwrap(), Uuid::from_u128(n));
            let low = redis_keyslot(channel.as_str().as_bytes()) < 8_192;
            assert_eq!(map.node_of(&channel).to_string(), if low { "10.0.0.1:1" } else { "10.0.0.1:2" });
        }
        assert!(NodeMap::read(&Value::Array(vec![range(0, 16_384, 1)])).is_none());
        assert!(NodeMap::read(&Value::Null).is_none());
    }
}
