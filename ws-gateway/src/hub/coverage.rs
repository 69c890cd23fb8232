//! Which channels Redis serves now. A single server serves all or none; a cluster serves the slots of its connected
//! masters.
//!
//! The hub knows nothing else of Redis. A lost node affects only the rooms of its slots.

use shared::contract::redis::keys::Channel;

use super::Hub;
use super::room::SubscriptionState;
use crate::redis::SlotSet;

impl Hub {
    /// The subscriber has connected to a single server. Nothing is subscribed yet.
    pub(crate) fn connected(&self) {
        self.slots_connected(&SlotSet::all());
    }

    /// The connection is lost, and with it every subscription.
    pub(crate) fn disconnected(&self) {
        self.slots_disconnected(&SlotSet::all());
    }

    /// A connection now serves these slots. Nothing is subscribed on it yet.
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

    /// No connection serves these slots any more. Their subscriptions have ended.
    pub(crate) fn slots_disconnected(&self, slots: &SlotSet) {
        for mut guard in self.lock_shards() {
            let shard = &mut *guard;
            shard.served_slots.remove(slots);
            shard.backfill_queue.retain(|name| !is_in(slots, name));
            // The next `slots_connected` queues all of these rooms again.
            shard.to_subscribe.retain(|name| !is_in(slots, name));
            let mut is_concerned = false;
            for (_, room) in shard.rooms.iter_mut().filter(|(name, _)| is_in(slots, name)) {
                room.disconnected();
                is_concerned = true;
            }
            // A handshake that reads a log here must start over. In other shards it may go on.
            shard.epoch += u64::from(is_concerned);
        }
    }

    /// Another connection serves these slots from now on. No connection was missing in between. Their rooms subscribe
    /// there, and read their logs after that.
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
            // A handshake that reads a log must start over: it may miss events between the two subscriptions.
            shard.epoch += 1;
        }
        self.subscriptions_changed.notify_one();
    }

    /// Redis has ended one subscription on its own, as it does when a slot moves to another node.
    pub(crate) fn subscription_ended(&self, channel: &str) {
        let mut guard = self.shard(channel).lock();
        let shard = &mut *guard;
        let Some(room) = shard.rooms.get_mut(channel) else { return };
        // The hub may have unsubscribed and subscribed again. Then another reply follows.
        if room.subscription != SubscriptionState::Active {
            return;
        }
        metrics::counter!("ehr_chat_gateway_pubsub_gaps_total", "detected_by" => "unsubscribed").increment(1);
        room.mark_gap();
        room.subscription = SubscriptionState::Pending;
        // A handshake that reads a log must start over: it may miss events until the room is subscribed again.
        shard.epoch += 1;
        if let Some((channel, _)) = shard.rooms.get_key_value(channel) {
            shard.to_subscribe.push(channel.clone());
        }
        self.subscriptions_changed.notify_one();
    }

    /// Whether Redis serves all channels now.
    #[must_use]
    pub(crate) fn is_connected(&self) -> bool {
        self.shards[0].lock().served_slots.is_whole()
    }

    /// Whether Redis serves any channel now.
    #[must_use]
    pub(crate) fn is_partly_connected(&self) -> bool {
        !self.shards[0].lock().served_slots.is_empty()
    }

    /// Whether any server was ever connected.
    #[must_use]
    pub(crate) fn has_ever_connected(&self) -> bool {
        self.shards[0].lock().has_ever_connected
    }

    /// Whether Redis does not serve this channel although it serves others. Batch jobs skip such channels, so that
    /// others do not wait for a node that does not respond.
    pub(crate) fn is_node_down(&self, channel: &Channel) -> bool {
        let shard = self.shard(channel.as_str()).lock();
        !shard.served_slots.is_empty() && !is_in(&shard.served_slots, channel)
    }
}

pub(super) fn is_in(slots: &SlotSet, channel: &Channel) -> bool {
    slots.contains(channel.as_str())
}
