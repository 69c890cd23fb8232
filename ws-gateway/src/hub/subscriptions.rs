//! Which channels the hub wants subscribed, and which are confirmed.

use shared::contract::redis::keys::Channel;

use super::coverage::is_in;
use super::epoch::Epoch;
use super::room::{Room, SubscriptionState};
use super::{Hub, Shard};

/// Channels to subscribe and to unsubscribe.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SubscriptionChanges {
    /// Channels that a room needs now.
    pub(crate) subscribe: Vec<Channel>,
    /// Send these first, because a channel may be in both lists.
    pub(crate) unsubscribe: Vec<Channel>,
}

impl SubscriptionChanges {
    /// Whether there are no changes.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.subscribe.is_empty() && self.unsubscribe.is_empty()
    }
}

impl Hub {
    /// Waits until [`Hub::take_subscription_changes`] may return changes.
    pub(crate) async fn subscriptions_changed(&self) {
        self.subscriptions_changed.notified().await;
    }

    /// Takes the next changes, at most `limit` of each kind.
    pub(crate) fn take_subscription_changes(&self, limit: usize) -> SubscriptionChanges {
        self.take_subscription_changes_in(limit, |_| true)
    }

    /// Takes the next changes among channels that `is_mine`. A caller must wait for their confirmation before it
    /// takes more.
    pub(crate) fn take_subscription_changes_in(
        &self,
        limit: usize,
        is_mine: impl Fn(&Channel) -> bool,
    ) -> SubscriptionChanges {
        let mut changes = SubscriptionChanges::default();
        for mut shard in self.lock_shards() {
            if !(shard.to_unsubscribe.is_empty() && shard.to_subscribe.is_empty()) {
                shard.take_subscription_changes(&mut changes, limit, &is_mine);
            }
        }
        if changes.subscribe.len().max(changes.unsubscribe.len()) >= limit {
            self.subscriptions_changed.notify_one();
        }
        changes
    }

    /// Whether this subscription is confirmed.
    #[must_use]
    pub(crate) fn is_active(&self, channel: &Channel) -> bool {
        let shard = self.shard(channel.as_str()).lock();
        shard.rooms.get(channel).is_some_and(|room| room.subscription == SubscriptionState::Active)
    }

    /// Redis has confirmed these subscriptions.
    pub(crate) fn confirm_subscriptions(&self, channels: &[Channel]) {
        for channel in channels {
            let mut guard = self.shard(channel.as_str()).lock();
            let shard = &mut *guard;
            let Some(room) = shard.rooms.get_mut(channel) else { continue };
            room.subscription = SubscriptionState::Active;
            for waiter in room.subscribe_waiters.drain(..) {
                // The handshake may have timed out.
                let _gone = waiter.send(Epoch(shard.epoch));
            }
            if room.needs_backfill() {
                shard.backfill_queue.push(channel.clone());
                self.backfill_requested.notify_one();
            } else {
                room.recover();
            }
        }
    }
}

impl Shard {
    /// Adds the changes of channels that `is_mine`. A change whose slot no node serves is dropped: `slots_connected`
    /// queues all channels of the slot again.
    pub(super) fn take_subscription_changes(
        &mut self,
        changes: &mut SubscriptionChanges,
        limit: usize,
        is_mine: impl Fn(&Channel) -> bool,
    ) {
        let Self { rooms, served_slots, .. } = self;
        self.to_unsubscribe.retain(|channel| {
            let is_served = is_in(served_slots, channel);
            if is_served && (changes.unsubscribe.len() >= limit || !is_mine(channel)) {
                return true;
            }
            if let Some(room) = rooms.get(channel).filter(|room| room.is_empty()) {
                // A room that needs a backfill may be about to be subscribed again.
                if is_served && (room.subscription == SubscriptionState::Active || room.needs_backfill()) {
                    changes.unsubscribe.push(channel.clone());
                }
                rooms.remove(channel);
            }
            false
        });
        if changes.subscribe.len() >= limit {
            return;
        }
        self.to_subscribe.retain(|channel| {
            if !is_in(served_slots, channel) {
                return false;
            }
            if changes.subscribe.len() >= limit || !is_mine(channel) {
                return true;
            }
            if let Some(room) =
                rooms.get_mut(channel).filter(|room: &&mut Room| room.subscription == SubscriptionState::Pending)
            {
                room.subscription = SubscriptionState::Subscribing;
                changes.subscribe.push(channel.clone());
            }
            false
        });
    }
}
