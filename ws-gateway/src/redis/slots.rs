//! Which node of a Redis Cluster serves which channel: read when a node is lost or a slot has no owner, corrected by the
//! redirections that follow.

use fred::types::Value;
use fred::types::config::Server;
use shared::channel::Channel;

use super::slot_set::{SLOTS, slot_of};

/// The owner of a slot that nobody serves.
const NOBODY: u16 = u16::MAX;

/// The masters, and for each slot the place of its own among them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Slots {
    masters: Vec<Server>,
    owners: Vec<u16>,
    /// Masters and replicas: whom to ask next time.
    pub(super) everybody: Vec<Server>,
}

impl Slots {
    /// Reads the answer to `CLUSTER SLOTS` of the node at `asked`; `None` when it is none.
    pub(crate) fn read(answer: &Value, asked: &Server) -> Option<Self> {
        let mut slots = Self { masters: Vec::new(), owners: vec![NOBODY; SLOTS], everybody: Vec::new() };
        for range in array(answer)? {
            let [first, last, nodes @ ..] = array(range)? else { return None };
            let nodes = nodes.iter().map(|node| server(node, asked)).collect::<Option<Vec<_>>>()?;
            let master = nodes.first()?;
            let place = slots.masters.iter().position(|known| known == master).unwrap_or_else(|| {
                slots.masters.push(master.clone());
                slots.masters.len() - 1
            });
            let range = usize::try_from(first.as_i64()?).ok()?..=usize::try_from(last.as_i64()?).ok()?;
            slots.owners.get_mut(range)?.fill(u16::try_from(place).ok()?);
            slots.everybody.extend(nodes);
        }
        (!slots.masters.is_empty()).then_some(slots)
    }

    pub(crate) fn masters(&self) -> &[Server] {
        &self.masters
    }

    /// The master of each slot, as its place among them.
    pub(crate) fn owners(&self) -> impl Iterator<Item = Option<usize>> {
        self.owners.iter().map(|owner| (*owner != NOBODY).then_some(usize::from(*owner)))
    }

    /// The place of the master that serves a channel.
    pub(crate) fn owner(&self, channel: &Channel) -> Option<usize> {
        let owner = self.owners[slot_of(channel.as_str())];
        (owner != NOBODY).then_some(owner.into())
    }

    /// Nobody is known to serve this channel's slot, whatever the map says.
    pub(crate) fn disown(&mut self, channel: &Channel) {
        self.owners[slot_of(channel.as_str())] = NOBODY;
    }

    /// Learns from `MOVED SLOT HOST:PORT`, which the channel's owner said about it. Without a host it is the owner's own
    /// (`cluster-preferred-endpoint-type unknown-endpoint`). Returns whether it names a master that is known, and the
    /// channel's own slot.
    pub(crate) fn learn(&mut self, channel: &Channel, redirection: &str) -> bool {
        let mut words = redirection.split_whitespace();
        let (Some("MOVED"), Some(slot), Some(place)) = (words.next(), words.next(), words.next()) else { return false };
        let slot = slot.parse::<usize>().ok().filter(|slot| *slot == slot_of(channel.as_str()));
        let Some(asked) = self.owner(channel).and_then(|owner| self.masters.get(owner)) else { return false };
        let place = if place.starts_with(':') { format!("{}{place}", asked.host) } else { place.to_owned() };
        let owner = self.masters.iter().position(|master| format!("{}:{}", master.host, master.port) == place);
        let (Some(slot), Some(owner)) = (slot, owner.and_then(|owner| u16::try_from(owner).ok())) else { return false };
        self.owners[slot] = owner;
        true
    }
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
    use uuid::Uuid;

    fn node(host: Value, port: i64) -> Value {
        Value::Array(vec![host, Value::Integer(port), "id".into(), Value::Array(vec![])])
    }

    fn range(first: i64, last: i64, nodes: Vec<Value>) -> Value {
        let mut range = vec![Value::Integer(first), Value::Integer(last)];
        range.extend(nodes);
        Value::Array(range)
    }

    fn channels() -> impl Iterator<Item = Channel> {
        (0..100).map(|n| Channel::new(&"loc1".parse().unwrap(), Uuid::from_u128(n)))
    }

    #[test]
    fn every_channel_has_the_owner_of_its_slot_and_redirections_change_it() {
        let low = range(0, 8191, vec![node("10.0.0.1".into(), 1), node("10.0.0.3".into(), 3)]);
        let high = range(8192, 16383, vec![node(Value::Null, 2)]);
        let asked = Server::new("10.0.0.2", 2);
        let mut slots = Slots::read(&Value::Array(vec![low, high]), &asked).unwrap();
        assert_eq!(slots.masters(), [Server::new("10.0.0.1", 1), asked]);
        assert_eq!(slots.everybody.len(), 3);
        for channel in channels() {
            let slot = slot_of(channel.as_str());
            let (owner, other) = if slot < 8192 { (0, "10.0.0.2:2") } else { (1, "10.0.0.1:1") };
            assert_eq!(slots.owner(&channel), Some(owner));
            assert!(!slots.learn(&channel, &format!("MOVED {slot} 10.0.0.9:9")), "nobody is connected there");
            assert!(!slots.learn(&channel, &format!("MOVED {} {other}", slot ^ 1)), "it was said of another");
            assert!(slots.learn(&channel, &format!("MOVED {slot} {other}")));
            assert_eq!(slots.owner(&channel), Some(1 - owner));
        }
    }

    #[test]
    fn a_redirection_without_a_host_stays_at_the_host_that_gave_it() {
        let map = Value::Array(vec![
            range(0, 8191, vec![node(Value::Null, 1)]),
            range(8192, 16383, vec![node(Value::Null, 2)]),
        ]);
        let mut slots = Slots::read(&map, &Server::new("10.0.0.1", 1)).unwrap();
        for channel in channels() {
            let slot = slot_of(channel.as_str());
            let owner = slots.owner(&channel).unwrap();
            assert!(!slots.learn(&channel, &format!("MOVED {slot} :3")), "nobody is connected there");
            assert!(slots.learn(&channel, &format!("MOVED {slot} :{}", 2 - owner)));
            assert_eq!(slots.owner(&channel), Some(1 - owner));
        }
    }

    #[test]
    fn slots_without_a_master_have_no_owner_and_nonsense_is_no_map() {
        let asked = Server::new("10.0.0.1", 1);
        let half = Value::Array(vec![range(0, 8191, vec![node("10.0.0.1".into(), 1)])]);
        let slots = Slots::read(&half, &asked).unwrap();
        assert!(channels().any(|channel| slots.owner(&channel).is_none()));
        for nonsense in
            [Value::Null, Value::Array(vec![]), Value::Array(vec![range(0, 16384, vec![node("h".into(), 1)])])]
        {
            assert_eq!(Slots::read(&nonsense, &asked), None);
        }
    }
}
