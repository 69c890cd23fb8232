//! Which connection serves which slot: the connection of the slot's owner in the slot map.

use std::collections::HashMap;
use std::sync::Arc;

use fred::types::config::Server;
use shared::contract::redis::keys::Channel;
use tokio::sync::Notify;

use crate::redis::{SLOT_COUNT, SlotMap, SlotSet, slot_of};

/// Redirections per slot and map. One is normal during a migration; more mean an inconsistent cluster.
const MAX_REDIRECTIONS: usize = 3;

/// A unique connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConnectionId(u32);

const NO_CONNECTION: ConnectionId = ConnectionId(0);

/// A master of the slot map, connected or not.
#[derive(Debug)]
pub(super) struct Master {
    pub(super) server: Server,
    /// Subscriptions may have changed.
    pub(super) changes_ready: Notify,
    /// The slot map no longer names this master.
    pub(super) removed: Notify,
}

#[derive(Debug)]
pub(super) struct Routes {
    map: Option<SlotMap>,
    masters: HashMap<Server, Arc<Master>>,
    connections: HashMap<Server, ConnectionId>,
    last_id: ConnectionId,
    /// The connection of each slot, as the hub knows it.
    served: Vec<ConnectionId>,
    redirections: HashMap<usize, usize>,
}

/// Slots that changed for the hub.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Without a connection now.
    pub(super) disconnected: SlotSet,
    /// On another connection now.
    pub(super) moved: SlotSet,
    /// With a connection again.
    pub(super) connected: SlotSet,
}

impl Routes {
    pub(super) fn new() -> Self {
        Self {
            map: None,
            masters: HashMap::new(),
            connections: HashMap::new(),
            last_id: NO_CONNECTION,
            served: vec![NO_CONNECTION; SLOT_COUNT],
            redirections: HashMap::new(),
        }
    }

    /// Applies a new slot map. Returns the new masters.
    pub(super) fn apply_map(&mut self, map: SlotMap) -> Vec<Arc<Master>> {
        self.redirections.clear();
        let masters = map.masters();
        self.masters.retain(|server, master| {
            let stays = masters.contains(server);
            if !stays {
                master.removed.notify_one();
                self.connections.remove(server);
            }
            stays
        });
        let mut new = Vec::new();
        for server in masters {
            if !self.masters.contains_key(server) {
                let (changes_ready, removed) = (Notify::new(), Notify::new());
                let master = Arc::new(Master { server: server.clone(), changes_ready, removed });
                self.masters.insert(server.clone(), master.clone());
                new.push(master);
            }
        }
        self.map = Some(map);
        new
    }

    /// A master is connected. `None` if the map has dropped it in the meantime.
    pub(super) fn connect(&mut self, master: &Master) -> Option<ConnectionId> {
        // A new master may have the same address.
        self.masters.get(&master.server).filter(|present| std::ptr::eq(Arc::as_ptr(present), master))?;
        self.last_id = ConnectionId(self.last_id.0 + 1);
        self.connections.insert(master.server.clone(), self.last_id);
        Some(self.last_id)
    }

    /// A master is disconnected.
    pub(super) fn disconnect(&mut self, master: &Master, writer: ConnectionId) {
        if self.connections.get(&master.server) == Some(&writer) {
            self.connections.remove(&master.server);
        }
    }

    /// A node rejected a channel and returned `errors`. If one names another connected owner, the slot moves there
    /// and this returns `true`. Otherwise the slot has no owner until the next map.
    pub(super) fn redirect(&mut self, writer: ConnectionId, channel: &Channel, errors: &[String]) -> bool {
        let Some(map) = &mut self.map else { return false };
        let redirections = self.redirections.entry(slot_of(channel.as_str())).or_default();
        *redirections += 1;
        let is_known =
            *redirections <= MAX_REDIRECTIONS && errors.iter().any(|error| map.apply_moved(channel.as_str(), error));
        let owner = map.owner_index(channel.as_str()).and_then(|owner| self.connections.get(map.masters().get(owner)?));
        if is_known && owner != Some(&writer) {
            return true;
        }
        map.unassign(channel.as_str());
        false
    }

    /// The changes since the last call.
    pub(super) fn take_changes(&mut self) -> Changes {
        let mut changes = Changes::default();
        let Some(map) = &self.map else { return changes };
        let connections: Vec<_> =
            map.masters().iter().map(|master| self.connections.get(master).copied().unwrap_or(NO_CONNECTION)).collect();
        for ((slot, owner), served) in map.owner_indices().enumerate().zip(&mut self.served) {
            let now = owner.and_then(|owner| connections.get(owner).copied()).unwrap_or(NO_CONNECTION);
            match (std::mem::replace(served, now), now) {
                (before, now) if before == now => {}
                (NO_CONNECTION, _) => changes.connected.insert(slot),
                (_, NO_CONNECTION) => changes.disconnected.insert(slot),
                _ => changes.moved.insert(slot),
            }
        }
        changes
    }

    pub(super) fn serves(&self, writer: ConnectionId, channel: &str) -> bool {
        self.served[slot_of(channel)] == writer
    }

    /// Whether every slot has a connection.
    pub(super) fn is_whole(&self) -> bool {
        !self.served.contains(&NO_CONNECTION)
    }

    /// Masters without a connection.
    pub(super) fn nodes_down(&self) -> usize {
        self.masters.len() - self.masters.keys().filter(|server| self.connections.contains_key(server)).count()
    }

    pub(super) fn wake_all(&self) {
        for master in self.masters.values() {
            master.changes_ready.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fred::types::Value;
    use uuid::Uuid;

    /// A map of ranges, each with the port of its master.
    fn map(ranges: &[(i64, i64, i64)]) -> SlotMap {
        let range = |(first, last, port): &(i64, i64, i64)| {
            let node = Value::Array(vec!["h".into(), Value::Integer(*port)]);
            Value::Array(vec![Value::Integer(*first), Value::Integer(*last), node])
        };
        SlotMap::parse(&Value::Array(ranges.iter().map(range).collect()), &Server::new("h", 1)).unwrap()
    }

    fn two_masters() -> (Routes, [Arc<Master>; 2], [ConnectionId; 2]) {
        let mut routes = Routes::new();
        let masters: [_; 2] = routes.apply_map(map(&[(0, 8191, 1), (8192, 16383, 2)])).try_into().unwrap();
        assert_eq!(routes.take_changes(), Changes::default());
        assert_eq!(routes.nodes_down(), 2);
        let connections = [routes.connect(&masters[0]).unwrap(), routes.connect(&masters[1]).unwrap()];
        assert!(routes.take_changes().connected.is_whole() && routes.is_whole());
        assert_eq!(routes.nodes_down(), 0);
        (routes, masters, connections)
    }

    fn slots(range: std::ops::RangeInclusive<usize>) -> SlotSet {
        let mut set = SlotSet::default();
        range.for_each(|slot| set.insert(slot));
        set
    }

    /// A channel of the first master.
    fn channel() -> Channel {
        let mut channels = (0..).map(|n| Channel::new(&"loc1".parse().unwrap(), Uuid::from_u128(n)));
        channels.find(|channel| slot_of(channel.as_str()) < 8192).unwrap()
    }

    #[test]
    fn lost_node_loses_only_its_own_slots() {
        let (mut routes, masters, [first, second]) = two_masters();
        assert!(routes.serves(first, channel().as_str()) && !routes.serves(second, channel().as_str()));
        routes.disconnect(&masters[0], first);
        assert_eq!(routes.take_changes(), Changes { disconnected: slots(0..=8191), ..Changes::default() });
        assert_eq!((routes.is_whole(), routes.nodes_down()), (false, 1));
        let again = routes.connect(&masters[0]).unwrap();
        assert_eq!(routes.take_changes(), Changes { connected: slots(0..=8191), ..Changes::default() });
        // A late report of a lost connection does not affect its successor.
        routes.disconnect(&masters[0], first);
        assert_eq!(routes.take_changes(), Changes::default());
        assert!(routes.serves(again, channel().as_str()));
    }

    #[test]
    fn slots_of_lost_node_return_with_connected_successor() {
        let (mut routes, masters, [first, _]) = two_masters();
        routes.disconnect(&masters[0], first);
        routes.take_changes();
        let successor = routes.apply_map(map(&[(0, 8191, 3), (8192, 16383, 2)]));
        assert_eq!(successor.iter().map(|master| master.server.port).collect::<Vec<_>>(), [3]);
        assert_eq!(routes.take_changes(), Changes::default());
        routes.connect(&successor[0]).unwrap();
        assert_eq!(routes.take_changes(), Changes { connected: slots(0..=8191), ..Changes::default() });
    }

    #[tokio::test]
    async fn demoted_master_is_removed_although_connected() {
        let (mut routes, masters, _) = two_masters();
        routes.apply_map(map(&[(0, 8191, 3), (8192, 16383, 2)]));
        masters[0].removed.notified().await;
        assert_eq!(routes.take_changes().disconnected, slots(0..=8191));
        assert_eq!(routes.connect(&masters[0]), None, "a removed master serves nothing");
        let restored = routes.apply_map(map(&[(0, 8191, 1), (8192, 16383, 2)]));
        assert_eq!(routes.connect(&masters[0]), None, "nor in place of its successor");
        assert!(routes.connect(&restored[0]).is_some());
    }

    #[test]
    fn slots_moved_between_masters_are_not_disconnected() {
        let (mut routes, _, _) = two_masters();
        assert!(routes.apply_map(map(&[(0, 99, 2), (100, 8191, 1), (8192, 16383, 2)])).is_empty());
        assert_eq!(routes.take_changes(), Changes { moved: slots(0..=99), ..Changes::default() });
    }

    #[test]
    fn slots_without_owner_are_disconnected() {
        let (mut routes, _, _) = two_masters();
        routes.apply_map(map(&[(100, 8191, 1), (8192, 16383, 2)]));
        assert_eq!(routes.take_changes(), Changes { disconnected: slots(0..=99), ..Changes::default() });
        assert_eq!((routes.is_whole(), routes.nodes_down()), (false, 0));
    }

    #[test]
    fn redirection_moves_slot_up_to_limit() {
        let (mut routes, _, connections) = two_masters();
        let (channel, slot) = (channel(), slot_of(channel().as_str()));
        let to = [format!("MOVED {slot} h:2"), format!("MOVED {slot} h:1")];
        for redirections in 0..MAX_REDIRECTIONS {
            assert!(routes.redirect(
                connections[redirections % 2],
                &channel,
                std::slice::from_ref(&to[redirections % 2])
            ));
            assert_eq!(routes.take_changes(), Changes { moved: slots(slot..=slot), ..Changes::default() });
        }
        assert!(!routes.redirect(connections[1], &channel, &to[1..]));
        assert_eq!(routes.take_changes(), Changes { disconnected: slots(slot..=slot), ..Changes::default() });
    }

    #[test]
    fn useless_redirection_leaves_slot_without_owner() {
        for error in ["h:9", "h:1"] {
            let (mut routes, _, [first, _]) = two_masters();
            let slot = slot_of(channel().as_str());
            assert!(!routes.redirect(first, &channel(), &[format!("MOVED {slot} {error}")]));
            assert_eq!(
                routes.take_changes(),
                Changes { disconnected: slots(slot..=slot), ..Changes::default() },
                "{error}"
            );
        }
    }
}
