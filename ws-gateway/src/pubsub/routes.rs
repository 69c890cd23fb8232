//! Which connection serves which slot of a cluster: what the map says of its owner, as far as that one is connected.

use std::collections::HashMap;
use std::sync::Arc;

use fred::types::config::Server;
use shared::channel::Channel;
use tokio::sync::Notify;

use crate::redis::{SLOTS, SlotSet, Slots, slot_of};

/// Redirections that a slot may meet under one map. One is a slot that was migrated; more is a cluster in disorder.
const REDIRECTIONS: usize = 3;

/// A connection. No two are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LinkId(u32);

/// There is none.
const NONE: LinkId = LinkId(0);

/// A master's place: it is there, connected or not, for as long as the map names that master.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) server: Server,
    /// What is wanted may have changed.
    pub(super) woken: Notify,
    /// The map does not name it any more.
    pub(super) dismissed: Notify,
}

#[derive(Debug)]
pub(super) struct Routes {
    map: Option<Slots>,
    seats: HashMap<Server, Arc<Seat>>,
    links: HashMap<Server, LinkId>,
    newest: LinkId,
    /// For each slot, as the hub knows it.
    served: Vec<LinkId>,
    redirections: HashMap<usize, usize>,
}

/// What is different for the hub.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Served no more.
    pub(super) cut: SlotSet,
    /// Served by another connection.
    pub(super) moved: SlotSet,
    /// Served again.
    pub(super) reached: SlotSet,
}

impl Routes {
    pub(super) fn new() -> Self {
        Self {
            map: None,
            seats: HashMap::new(),
            links: HashMap::new(),
            newest: NONE,
            served: vec![NONE; SLOTS],
            redirections: HashMap::new(),
        }
    }

    /// Takes over what a node says of the cluster. Returns the masters that are new.
    pub(super) fn take_map(&mut self, map: Slots) -> Vec<Arc<Seat>> {
        self.redirections.clear();
        let masters = map.masters();
        self.seats.retain(|server, seat| {
            let stays = masters.contains(server);
            if !stays {
                seat.dismissed.notify_one();
                self.links.remove(server);
            }
            stays
        });
        let mut new = Vec::new();
        for server in masters {
            if !self.seats.contains_key(server) {
                let (woken, dismissed) = (Notify::new(), Notify::new());
                let seat = Arc::new(Seat { server: server.clone(), woken, dismissed });
                self.seats.insert(server.clone(), seat.clone());
                new.push(seat);
            }
        }
        self.map = Some(map);
        new
    }

    /// A master is connected. `None` when the map has dropped it meanwhile.
    pub(super) fn link(&mut self, seat: &Seat) -> Option<LinkId> {
        // Its place may have been given to another one of the same name.
        self.seats.get(&seat.server).filter(|present| std::ptr::eq(Arc::as_ptr(present), seat))?;
        self.newest = LinkId(self.newest.0 + 1);
        self.links.insert(seat.server.clone(), self.newest);
        Some(self.newest)
    }

    /// It is not any more.
    pub(super) fn unlink(&mut self, seat: &Seat, link: LinkId) {
        if self.links.get(&seat.server) == Some(&link) {
            self.links.remove(&seat.server);
        }
    }

    /// The node behind `link` does not serve a channel, and said something about the slots of some. Returns whether that
    /// names its owner; otherwise the slot has none until the map is read again.
    pub(super) fn redirect(&mut self, link: LinkId, channel: &Channel, refusals: &[String]) -> bool {
        let Some(map) = &mut self.map else { return false };
        let met = self.redirections.entry(slot_of(channel.as_str())).or_default();
        *met += 1;
        let is_known = *met <= REDIRECTIONS && refusals.iter().any(|refusal| map.learn(channel.as_str(), refusal));
        let owner = map.owner(channel.as_str()).and_then(|owner| self.links.get(map.masters().get(owner)?));
        if is_known && owner != Some(&link) {
            return true;
        }
        map.disown(channel.as_str());
        false
    }

    /// What has changed since it was asked last.
    pub(super) fn settle(&mut self) -> Changes {
        let mut changes = Changes::default();
        let Some(map) = &self.map else { return changes };
        let links: Vec<_> =
            map.masters().iter().map(|master| self.links.get(master).copied().unwrap_or(NONE)).collect();
        for ((slot, owner), served) in map.owners().enumerate().zip(&mut self.served) {
            let now = owner.and_then(|owner| links.get(owner).copied()).unwrap_or(NONE);
            match (std::mem::replace(served, now), now) {
                (before, now) if before == now => {}
                (NONE, _) => changes.reached.insert(slot),
                (_, NONE) => changes.cut.insert(slot),
                _ => changes.moved.insert(slot),
            }
        }
        changes
    }

    /// Whether this connection serves a channel.
    pub(super) fn serves(&self, link: LinkId, channel: &str) -> bool {
        self.served[slot_of(channel)] == link
    }

    /// Whether every slot is served.
    pub(super) fn is_whole(&self) -> bool {
        !self.served.contains(&NONE)
    }

    /// Masters that are not connected.
    pub(super) fn nodes_down(&self) -> usize {
        self.seats.len() - self.seats.keys().filter(|server| self.links.contains_key(server)).count()
    }

    pub(super) fn wake_all(&self) {
        for seat in self.seats.values() {
            seat.woken.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fred::types::Value;
    use uuid::Uuid;

    /// A map of ranges, each with the port of its master.
    fn map(ranges: &[(i64, i64, i64)]) -> Slots {
        let range = |(first, last, port): &(i64, i64, i64)| {
            let node = Value::Array(vec!["h".into(), Value::Integer(*port)]);
            Value::Array(vec![Value::Integer(*first), Value::Integer(*last), node])
        };
        Slots::read(&Value::Array(ranges.iter().map(range).collect()), &Server::new("h", 1)).unwrap()
    }

    fn two_masters() -> (Routes, [Arc<Seat>; 2], [LinkId; 2]) {
        let mut routes = Routes::new();
        let seats: [_; 2] = routes.take_map(map(&[(0, 8191, 1), (8192, 16383, 2)])).try_into().unwrap();
        assert_eq!(routes.settle(), Changes::default());
        assert_eq!(routes.nodes_down(), 2);
        let links = [routes.link(&seats[0]).unwrap(), routes.link(&seats[1]).unwrap()];
        assert!(routes.settle().reached.is_whole() && routes.is_whole());
        assert_eq!(routes.nodes_down(), 0);
        (routes, seats, links)
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
    fn a_node_that_is_lost_takes_its_own_slots_and_no_others() {
        let (mut routes, seats, [first, second]) = two_masters();
        assert!(routes.serves(first, channel().as_str()) && !routes.serves(second, channel().as_str()));
        routes.unlink(&seats[0], first);
        assert_eq!(routes.settle(), Changes { cut: slots(0..=8191), ..Changes::default() });
        assert_eq!((routes.is_whole(), routes.nodes_down()), (false, 1));
        let again = routes.link(&seats[0]).unwrap();
        assert_eq!(routes.settle(), Changes { reached: slots(0..=8191), ..Changes::default() });
        // Whoever hears late that the old connection is gone does not mean the new one.
        routes.unlink(&seats[0], first);
        assert_eq!(routes.settle(), Changes::default());
        assert!(routes.serves(again, channel().as_str()));
    }

    #[test]
    fn slots_of_a_lost_node_are_served_again_by_its_successor_once_that_is_connected() {
        let (mut routes, seats, [first, _]) = two_masters();
        routes.unlink(&seats[0], first);
        routes.settle();
        let successor = routes.take_map(map(&[(0, 8191, 3), (8192, 16383, 2)]));
        assert_eq!(successor.iter().map(|seat| seat.server.port).collect::<Vec<_>>(), [3]);
        assert_eq!(routes.settle(), Changes::default());
        routes.link(&successor[0]).unwrap();
        assert_eq!(routes.settle(), Changes { reached: slots(0..=8191), ..Changes::default() });
    }

    #[tokio::test]
    async fn a_master_that_is_demoted_is_dismissed_though_it_is_connected() {
        let (mut routes, seats, _) = two_masters();
        routes.take_map(map(&[(0, 8191, 3), (8192, 16383, 2)]));
        seats[0].dismissed.notified().await;
        assert_eq!(routes.settle().cut, slots(0..=8191));
        assert_eq!(routes.link(&seats[0]), None, "who connects too late serves nothing");
        let anew = routes.take_map(map(&[(0, 8191, 1), (8192, 16383, 2)]));
        assert_eq!(routes.link(&seats[0]), None, "nor in the name of who comes after");
        assert!(routes.link(&anew[0]).is_some());
    }

    #[test]
    fn slots_that_move_between_connected_masters_are_not_cut() {
        let (mut routes, _, _) = two_masters();
        assert!(routes.take_map(map(&[(0, 99, 2), (100, 8191, 1), (8192, 16383, 2)])).is_empty());
        assert_eq!(routes.settle(), Changes { moved: slots(0..=99), ..Changes::default() });
    }

    #[test]
    fn slots_without_an_owner_are_not_served() {
        let (mut routes, _, _) = two_masters();
        routes.take_map(map(&[(100, 8191, 1), (8192, 16383, 2)]));
        assert_eq!(routes.settle(), Changes { cut: slots(0..=99), ..Changes::default() });
        assert_eq!((routes.is_whole(), routes.nodes_down()), (false, 0));
    }

    #[test]
    fn a_redirection_moves_one_slot_until_there_are_too_many() {
        let (mut routes, _, links) = two_masters();
        let (channel, slot) = (channel(), slot_of(channel().as_str()));
        let to = [format!("MOVED {slot} h:2"), format!("MOVED {slot} h:1")];
        for met in 0..REDIRECTIONS {
            assert!(routes.redirect(links[met % 2], &channel, std::slice::from_ref(&to[met % 2])));
            assert_eq!(routes.settle(), Changes { moved: slots(slot..=slot), ..Changes::default() });
        }
        assert!(!routes.redirect(links[1], &channel, &to[1..]));
        assert_eq!(routes.settle(), Changes { cut: slots(slot..=slot), ..Changes::default() });
    }

    #[test]
    fn a_redirection_to_an_unknown_node_or_back_leaves_the_slot_without_an_owner() {
        for refusal in ["h:9", "h:1"] {
            let (mut routes, _, [first, _]) = two_masters();
            let slot = slot_of(channel().as_str());
            assert!(!routes.redirect(first, &channel(), &[format!("MOVED {slot} {refusal}")]));
            assert_eq!(routes.settle(), Changes { cut: slots(slot..=slot), ..Changes::default() }, "{refusal}");
        }
    }
}
