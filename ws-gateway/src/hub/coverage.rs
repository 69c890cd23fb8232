//! Which channels Redis serves now: all of them or none with one server; in a cluster those of the nodes that are reached.
//! Of Redis the hub knows no more than that. A node that is lost concerns the rooms of its slots and no others.

use shared::channel::Channel;

use super::Hub;
use super::room::SubscriptionState;
use crate::redis::SlotSet;

impl Hub {
    /// A new connection to Redis is there, which serves everything, with nothing subscribed.
    pub fn connected(&self) {
        self.slots_connected(&SlotSet::all());
    }

    /// The connection is gone, and with it every subscription.
    pub fn disconnected(&self) {
        self.slots_disconnected(&SlotSet::all());
    }

    /// These slots are served, on a connection on which nothing is subscribed yet.
    pub(crate) fn slots_connected(&self, slots: &SlotSet) {
        for mut guard in self.lock_shards() {
            let shard = &mut *guard;
            shard.served_slots.extend(slots);
            shard.has_ever_connected = true;
            let rooms = shard
                .rooms
                .iter()
                .filter(|(name, room)| room.subscription == SubscriptionState::Pending && is_in(slots, name));
            shard.to_subscribe.extend(rooms.map(|(name, _)| name.clone()));
        }
        self.subscriptions_changed.notify_one();
    }

    /// These slots are served no more, and every subscription there has ended.
    pub(crate) fn slots_disconnected(&self, slots: &SlotSet) {
        for mut guard in self.lock_shards() {
            let shard = &mut *guard;
            shard.served_slots.remove(slots);
            shard.backfill_queue.retain(|name| !is_in(slots, name));
            // Whoever is back asks for all of them anew.
            shard.to_subscribe.retain(|name| !is_in(slots, name));
            let mut is_concerned = false;
            for (_, room) in shard.rooms.iter_mut().filter(|(name, _)| is_in(slots, name)) {
                room.disconnected();
                is_concerned = true;
            }
            // Who is just reading a log here begins again, and who reads elsewhere does not.
            shard.epoch += u64::from(is_concerned);
        }
    }

    /// Other connections than before serve these slots, without a moment in which none did: their rooms subscribe there, and
    /// read their logs behind that.
    pub(crate) fn slots_moved(&self, slots: &SlotSet) {
        for mut guard in self.lock_shards() {
            let shard = &mut *guard;
            let rooms = shard.rooms.iter_mut();
            for (name, room) in
                rooms.filter(|(name, room)| room.subscription != SubscriptionState::Pending && is_in(slots, name))
            {
                room.mark_gap();
                room.subscription = SubscriptionState::Pending;
                shard.to_subscribe.push(name.clone());
            }
            shard.backfill_queue.retain(|name| !is_in(slots, name));
            // Who is just reading the log must not believe that it hears what follows.
            shard.epoch += 1;
        }
        self.subscriptions_changed.notify_one();
    }

    /// Redis has ended one subscription by itself, as it does with those of a slot that moves to another node.
    pub fn subscription_ended(&self, channel: &str) {
        let mut guard = self.shard(channel).lock();
        let shard = &mut *guard;
        let Some(room) = shard.rooms.get_mut(channel) else { return };
        // We may have asked for it ourselves, and then for the opposite.
        if room.subscription != SubscriptionState::Active {
            return;
        }
        metrics::counter!("gateway_silent_losses_total", "noticed" => "subscription").increment(1);
        room.mark_gap();
        room.subscription = SubscriptionState::Pending;
        // Who is just reading the log must not believe that it hears what follows.
        shard.epoch += 1;
        if let Some((channel, _)) = shard.rooms.get_key_value(channel) {
            shard.to_subscribe.push(channel.clone());
        }
        self.subscriptions_changed.notify_one();
    }

    /// Whether events of all conversations come from Redis now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shards[0].lock().served_slots.is_whole()
    }

    /// Whether events of any conversations come from Redis now.
    #[must_use]
    pub fn is_partly_connected(&self) -> bool {
        !self.shards[0].lock().served_slots.is_empty()
    }

    /// Whether Redis, or any node of it, was ever reached.
    #[must_use]
    pub fn has_ever_connected(&self) -> bool {
        self.shards[0].lock().has_ever_connected
    }

    /// Whether this channel is cut off while others are not. Whoever sends commands for many leaves it out, so that the
    /// others do not wait for the node that does not answer.
    pub(crate) fn is_node_down(&self, channel: &Channel) -> bool {
        let shard = self.shard(channel.as_str()).lock();
        !shard.served_slots.is_empty() && !is_in(&shard.served_slots, channel)
    }
}

pub(super) fn is_in(slots: &SlotSet, channel: &Channel) -> bool {
    slots.contains(channel.as_str())
}
