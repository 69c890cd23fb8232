//! Which channels Redis serves now: all of them or none with one server; in a cluster those of the nodes that are reached.
//! Of Redis the hub knows no more than that. A node that is lost concerns the rooms of its slots and no others.

use shared::channel::Channel;

use super::room::{Room, Stage};
use super::{Hub, Interest, Shard};
use crate::redis::SlotSet;

impl Hub {
    /// A new connection to Redis is there, which serves everything, with nothing subscribed.
    pub fn connected(&self) {
        self.reached(&SlotSet::all());
    }

    /// The connection is gone, and with it every subscription.
    pub fn disconnected(&self) {
        self.cut(&SlotSet::all());
    }

    /// These slots are served, on a connection on which nothing is subscribed yet.
    pub(crate) fn reached(&self, slots: &SlotSet) {
        for mut guard in self.all() {
            let shard = &mut *guard;
            shard.reach.extend(slots);
            shard.was_reached = true;
            let rooms = shard.rooms.iter().filter(|(name, room)| room.stage == Stage::Wanted && is_in(slots, name));
            shard.wanted.extend(rooms.map(|(name, _)| name.clone()));
        }
        self.interest_changed.notify_one();
    }

    /// These slots are served no more, and every subscription there has ended.
    pub(crate) fn cut(&self, slots: &SlotSet) {
        for mut guard in self.all() {
            let shard = &mut *guard;
            shard.reach.remove(slots);
            shard.behind.retain(|name| !is_in(slots, name));
            // Whoever is back asks for all of them anew.
            shard.wanted.retain(|name| !is_in(slots, name));
            let mut is_concerned = false;
            for (_, room) in shard.rooms.iter_mut().filter(|(name, _)| is_in(slots, name)) {
                room.cut();
                is_concerned = true;
            }
            // Who is just reading a log here begins again, and who reads elsewhere does not.
            shard.epoch += u64::from(is_concerned);
        }
    }

    /// Other connections than before serve these slots, without a moment in which none did: their rooms subscribe there, and
    /// read their logs behind that.
    pub(crate) fn moved(&self, slots: &SlotSet) {
        for mut guard in self.all() {
            let shard = &mut *guard;
            let rooms = shard.rooms.iter_mut();
            for (name, room) in rooms.filter(|(name, room)| room.stage != Stage::Wanted && is_in(slots, name)) {
                room.fall_behind();
                room.stage = Stage::Wanted;
                shard.wanted.push(name.clone());
            }
            shard.behind.retain(|name| !is_in(slots, name));
            // Who is just reading the log must not believe that it hears what follows.
            shard.epoch += 1;
        }
        self.interest_changed.notify_one();
    }

    /// Redis has ended one subscription by itself, as it does with those of a slot that moves to another node.
    pub fn unsubscribed(&self, channel: &str) {
        let mut guard = self.shard(channel).lock();
        let state = &mut *guard;
        let Some(room) = state.rooms.get_mut(channel) else { return };
        // We may have asked for it ourselves, and then for the opposite.
        if room.stage != Stage::Live {
            return;
        }
        metrics::counter!("gateway_silent_losses_total", "noticed" => "subscription").increment(1);
        room.fall_behind();
        room.stage = Stage::Wanted;
        // Who is just reading the log must not believe that it hears what follows.
        state.epoch += 1;
        if let Some((channel, _)) = state.rooms.get_key_value(channel) {
            state.wanted.push(channel.clone());
        }
        self.interest_changed.notify_one();
    }

    /// Whether events of all conversations come from Redis now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shards[0].lock().reach.is_whole()
    }

    /// Whether events of any conversations come from Redis now.
    #[must_use]
    pub fn is_partly_connected(&self) -> bool {
        !self.shards[0].lock().reach.is_empty()
    }

    /// Whether Redis, or any node of it, was ever reached.
    #[must_use]
    pub fn was_reached(&self) -> bool {
        self.shards[0].lock().was_reached
    }

    /// Whether this channel is cut off while others are not. Whoever sends commands for many leaves it out, so that the
    /// others do not wait for the node that does not answer.
    pub(crate) fn is_left_out(&self, channel: &Channel) -> bool {
        let shard = self.shard(channel.as_str()).lock();
        !shard.reach.is_empty() && !is_in(&shard.reach, channel)
    }
}

fn is_in(slots: &SlotSet, channel: &Channel) -> bool {
    slots.contains(channel.as_str())
}

impl Shard {
    /// Adds changes of channels that `is_mine`. A change for a slot that no node serves is dropped: the connection that serves it next asks for all its channels.
    pub(super) fn take_interest(&mut self, interest: &mut Interest, limit: usize, is_mine: impl Fn(&Channel) -> bool) {
        let Self { rooms, reach, .. } = self;
        self.idle.retain(|channel| {
            let is_served = is_in(reach, channel);
            if is_served && (interest.unsubscribe.len() >= limit || !is_mine(channel)) {
                return true;
            }
            if let Some(room) = rooms.get(channel).filter(|room| room.is_empty()) {
                // One that is behind may be about to be subscribed anew.
                if is_served && (room.stage == Stage::Live || room.is_behind()) {
                    interest.unsubscribe.push(channel.clone());
                }
                rooms.remove(channel);
            }
            false
        });
        if interest.subscribe.len() >= limit {
            return;
        }
        self.wanted.retain(|channel| {
            if !is_in(reach, channel) {
                return false;
            }
            if interest.subscribe.len() >= limit || !is_mine(channel) {
                return true;
            }
            if let Some(room) = rooms.get_mut(channel).filter(|room: &&mut Room| room.stage == Stage::Wanted) {
                room.stage = Stage::Subscribing;
                interest.subscribe.push(channel.clone());
            }
            false
        });
    }
}
