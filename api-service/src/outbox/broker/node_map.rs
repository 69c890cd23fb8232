//! Which node of Redis serves which channel.

use std::sync::Arc;

use shared::contract::redis::keys::Channel;
use shared::kit::redis::SlotMap;

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

impl From<Option<Arc<SlotMap>>> for NodeMap {
    fn from(slots: Option<Arc<SlotMap>>) -> Self {
        Self(slots)
    }
}

impl NodeMap {
    /// The node of a channel. Unassigned channels share a placeholder node.
    #[must_use]
    pub fn node_of(&self, channel: &Channel) -> Node {
        let name = self.0.as_ref().and_then(|slots| slots.owner_name(channel.as_str().as_bytes()));
        Node(name.unwrap_or_else(|| "redis".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fred::types::Value;
    use fred::types::config::Server;
    use uuid::Uuid;

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
