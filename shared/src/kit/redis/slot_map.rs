//! Which node of a Redis Cluster serves which key: read from the cluster, corrected by the redirections that follow.

use std::sync::Arc;

use fred::types::Value;
use fred::types::config::Server;
use fred::util::redis_keyslot;

/// Slots of a cluster, by its specification.
pub const SLOT_COUNT: usize = 16_384;
/// The owner of a slot that no master serves.
const UNASSIGNED: u16 = u16::MAX;

/// The slot of a key or a channel.
#[must_use]
pub fn slot_of(key: impl AsRef<[u8]>) -> usize {
    redis_keyslot(key.as_ref()).into()
}

/// The masters, and for each slot the place of its own among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotMap {
    masters: Vec<Server>,
    /// `HOST:PORT` of each.
    names: Vec<Arc<str>>,
    owners: Vec<u16>,
    nodes: Vec<Server>,
}

impl SlotMap {
    /// Reads the answer to `CLUSTER SLOTS` of the node at `asked`; `None` when it is none.
    #[must_use]
    pub fn parse(answer: &Value, asked: &Server) -> Option<Self> {
        let mut slots =
            Self { masters: Vec::new(), names: Vec::new(), owners: vec![UNASSIGNED; SLOT_COUNT], nodes: Vec::new() };
        for range in array(answer)? {
            let [first, last, nodes @ ..] = array(range)? else { return None };
            let nodes = nodes.iter().map(|node| server(node, asked)).collect::<Option<Vec<_>>>()?;
            let master = nodes.first()?;
            let place = slots.masters.iter().position(|known| known == master).unwrap_or_else(|| {
                slots.masters.push(master.clone());
                slots.names.push(name(master).into());
                slots.masters.len() - 1
            });
            let range = usize::try_from(first.as_i64()?).ok()?..=usize::try_from(last.as_i64()?).ok()?;
            slots.owners.get_mut(range)?.fill(u16::try_from(place).ok()?);
            for node in nodes {
                if !slots.nodes.contains(&node) {
                    slots.nodes.push(node);
                }
            }
        }
        (!slots.masters.is_empty()).then_some(slots)
    }

    /// The masters. Their places are those that [`Self::owner_index`] tells.
    #[must_use]
    pub fn masters(&self) -> &[Server] {
        &self.masters
    }

    /// Masters and replicas: whom to ask next time.
    #[must_use]
    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    /// The place of the master of each slot; `None` when it has none.
    pub fn owner_indices(&self) -> impl Iterator<Item = Option<usize>> {
        self.owners.iter().map(|owner| assigned(*owner))
    }

    /// The place of the master that serves a key or a channel; `None` when it has none.
    #[must_use]
    pub fn owner_index(&self, key: impl AsRef<[u8]>) -> Option<usize> {
        assigned(self.owners[slot_of(key)])
    }

    /// Marks the slot of a key as unassigned, against the last map of the cluster.
    pub fn unassign(&mut self, key: impl AsRef<[u8]>) {
        self.owners[slot_of(key)] = UNASSIGNED;
    }

    /// `HOST:PORT` of the master that serves a key; `None` when it has none.
    #[must_use]
    pub fn owner_name(&self, key: impl AsRef<[u8]>) -> Option<Arc<str>> {
        self.names.get(self.owner_index(key)?).cloned()
    }

    /// Learns from `MOVED SLOT HOST:PORT`, which the key's owner said about it. Without a host it is the owner's own
    /// (`cluster-preferred-endpoint-type unknown-endpoint`). Returns whether it names a master that is known, and the
    /// key's own slot.
    pub fn apply_moved(&mut self, key: impl AsRef<[u8]>, redirection: &str) -> bool {
        let key = key.as_ref();
        let mut words = redirection.split_whitespace();
        let (Some("MOVED"), Some(slot), Some(place)) = (words.next(), words.next(), words.next()) else { return false };
        let slot = slot.parse::<usize>().ok().filter(|slot| *slot == slot_of(key));
        let Some(asked) = self.owner_index(key).and_then(|owner| self.masters.get(owner)) else { return false };
        let place = if place.starts_with(':') { format!("{}{place}", asked.host) } else { place.to_owned() };
        let owner = self.names.iter().position(|name| **name == *place);
        let (Some(slot), Some(owner)) = (slot, owner.and_then(|owner| u16::try_from(owner).ok())) else { return false };
        self.owners[slot] = owner;
        true
    }
}

fn assigned(owner: u16) -> Option<usize> {
    (owner != UNASSIGNED).then_some(owner.into())
}

fn name(server: &Server) -> String {
    format!("{}:{}", server.host, server.port)
}

fn array(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(values) => Some(values),
        _ => None,
    }
}

/// `[host, port, …]`. A node that does not know its own name is where it was asked.
fn server(node: &Value, asked: &Server) -> Option<Server> {
    let [host, port, ..] = array(node)? else { return None };
    let host = host.as_string().filter(|host| !host.is_empty() && host != "?");
    let port = u16::try_from(port.as_i64()?).ok()?;
    Some(Server::new(host.unwrap_or_else(|| asked.host.to_string()), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: Value, port: i64) -> Value {
        Value::Array(vec![host, Value::Integer(port), "id".into(), Value::Array(vec![])])
    }

    fn range(first: i64, last: i64, nodes: Vec<Value>) -> Value {
        let mut range = vec![Value::Integer(first), Value::Integer(last)];
        range.extend(nodes);
        Value::Array(range)
    }

    fn keys() -> impl Iterator<Item = String> {
        (0..100).map(|n| format!("{{loc1:{}}}", uuid::Uuid::from_u128(n)))
    }

    #[test]
    fn redirection_changes_slot_owner() {
        let low = range(0, 8191, vec![node("10.0.0.1".into(), 1), node("10.0.0.3".into(), 3)]);
        let high = range(8192, 16383, vec![node(Value::Null, 2)]);
        let asked = Server::new("10.0.0.2", 2);
        let mut slots = SlotMap::parse(&Value::Array(vec![low, high]), &asked).unwrap();
        assert_eq!(slots.masters(), [Server::new("10.0.0.1", 1), asked]);
        assert_eq!(slots.nodes().len(), 3);
        for key in keys() {
            let (key, log) = (key.as_bytes(), format!("{key}:log"));
            let slot = slot_of(key);
            let (owner, other) = if slot < 8192 { (0, "10.0.0.2:2") } else { (1, "10.0.0.1:1") };
            assert_eq!(
                (slots.owner_index(key), slots.owner_index(log.as_bytes())),
                (Some(owner), Some(owner)),
                "by its braces"
            );
            assert_ne!(&*slots.owner_name(key).unwrap(), other);
            assert!(!slots.apply_moved(key, &format!("MOVED {slot} 10.0.0.9:9")), "that master is not known");
            assert!(!slots.apply_moved(key, &format!("MOVED {} {other}", slot ^ 1)), "it was said of another");
            assert!(slots.apply_moved(key, &format!("MOVED {slot} {other}")));
            assert_eq!((slots.owner_index(key), &*slots.owner_name(key).unwrap()), (Some(1 - owner), other));
            assert_eq!(slots.owner_indices().nth(slot), Some(Some(1 - owner)));
            slots.unassign(key);
            assert_eq!((slots.owner_index(key), slots.owner_indices().nth(slot)), (None, Some(None)));
        }
    }

    #[test]
    fn redirection_without_host_keeps_the_host() {
        let map = Value::Array(vec![
            range(0, 8191, vec![node(Value::Null, 1)]),
            range(8192, 16383, vec![node(Value::Null, 2)]),
        ]);
        let mut slots = SlotMap::parse(&map, &Server::new("10.0.0.1", 1)).unwrap();
        for key in keys() {
            let key = key.as_bytes();
            let slot = slot_of(key);
            let owner = slots.owner_index(key).unwrap();
            assert!(!slots.apply_moved(key, &format!("MOVED {slot} :3")), "that master is not known");
            assert!(slots.apply_moved(key, &format!("MOVED {slot} :{}", 2 - owner)));
            assert_eq!(slots.owner_index(key), Some(1 - owner));
        }
    }

    #[test]
    fn unassigned_slots_have_no_owner() {
        let asked = Server::new("10.0.0.1", 1);
        let half = Value::Array(vec![range(0, 8191, vec![node("10.0.0.1".into(), 1)])]);
        let slots = SlotMap::parse(&half, &asked).unwrap();
        assert!(
            keys().any(|key| slots.owner_index(key.as_bytes()).is_none() && slots.owner_name(key.as_bytes()).is_none())
        );
        for nonsense in
            [Value::Null, Value::Array(vec![]), Value::Array(vec![range(0, 16384, vec![node("h".into(), 1)])])]
        {
            assert_eq!(SlotMap::parse(&nonsense, &asked), None);
        }
    }
}
