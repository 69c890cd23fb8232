//! Which channels the hub wants subscribed, and which are confirmed.

use shared::channel::Channel;

use super::coverage::is_in;
use super::room::{Room, SubscriptionState};
use super::{Epoch, Hub, Shard};

/// Channels to subscribe and to unsubscribe, in one go.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SubscriptionChanges {
    /// Newly wanted.
    pub subscribe: Vec<Channel>,
    /// Wanted by nobody any more. To be sent first: a channel may be in both.
    pub unsubscribe: Vec<Channel>,
}

impl SubscriptionChanges {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subscribe.is_empty() && self.unsubscribe.is_empty()
    }
}

impl Hub {
    /// Waits until [`Hub::take_subscription_changes`] may have something.
    pub async fn subscriptions_changed(&self) {
        self.subscriptions_changed.notified().await;
    }

    /// The next changes of what is to be subscribed; at most `limit` each way.
    pub fn take_subscription_changes(&self, limit: usize) -> SubscriptionChanges {
        self.take_subscription_changes_in(limit, |_| true)
    }

    /// The next changes among channels that `is_mine`. Whoever has taken some takes no more before they are confirmed.
    pub fn take_subscription_changes_in(
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

    /// Whether a channel's subscription is confirmed.
    #[must_use]
    pub fn is_active(&self, channel: &Channel) -> bool {
        let shard = self.shard(channel.as_str()).lock();
        shard.rooms.get(channel).is_some_and(|room| room.subscription == SubscriptionState::Active)
    }

    /// Redis has confirmed that these channels are subscribed.
    pub fn confirm_subscriptions(&self, channels: &[Channel]) {
        for channel in channels {
            let mut guard = self.shard(channel.as_str()).lock();
            let shard = &mut *guard;
            let Some(room) = shard.rooms.get_mut(channel) else { continue };
            room.subscription = SubscriptionState::Active;
            for waiter in room.subscribe_waiters.drain(..) {
                // Who gave up waiting is not there to hear it.
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
    /// Adds changes of channels that `is_mine`. A change for a slot that no node serves is dropped: the connection that serves it next asks for all its channels.
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
                // One that is behind may be about to be subscribed anew.
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
