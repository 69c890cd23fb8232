//! Gaps in a room's events, and how they are closed from the event log.

use std::sync::Arc;

use shared::channel::Channel;
use shared::event::Cursor;
use uuid::Uuid;

use super::Hub;
use super::outbound_queue::EncodedEvent;
use super::room::{Room, SubscriptionState};

/// What reading a conversation's log again has shown.
#[derive(Debug)]
pub enum Backfill {
    /// The log still holds the event seen last; these came after it.
    Events(Vec<Arc<EncodedEvent>>),
    /// It does not: what was missed cannot be known. The log's newest entry is this.
    Gap(Cursor),
}

impl Hub {
    /// An API service says that Redis refuses a conversation's events, or takes them again.
    pub fn record_publish_outage(&self, channel: &str, instance: Uuid, is_recovered: bool) {
        if let Some(room) = self.shard(channel).lock().rooms.get_mut(channel) {
            room.record_publish_outage(instance, is_recovered);
        }
    }

    /// Forgets announcements that nobody has repeated: their rooms read their logs, and then are well.
    pub fn expire_publish_outages(&self) {
        for mut guard in self.lock_shards() {
            let shard = &mut *guard;
            let stale =
                shard.rooms.iter_mut().filter_map(|(channel, room)| room.expire_publish_outages().then_some(channel));
            let stale: Vec<Channel> = stale.cloned().collect();
            if !stale.is_empty() {
                shard.backfill_queue.extend(stale);
                self.backfill_requested.notify_one();
            }
        }
    }

    /// What came on a channel could not be read: the log is, in its place.
    pub fn mark_gap(&self, channel: &str) {
        let mut guard = self.shard(channel).lock();
        let shard = &mut *guard;
        let Some(room) = shard.rooms.get_mut(channel) else { return };
        let needs_backfill = room.mark_gap();
        if room.subscription != SubscriptionState::Active {
            return;
        }
        if needs_backfill && let Some((channel, _)) = shard.rooms.get_key_value(channel) {
            shard.backfill_queue.push(channel.clone());
            self.backfill_requested.notify_one();
        } else if let Some(room) = shard.rooms.get_mut(channel).filter(|room| !room.needs_backfill()) {
            // Without a log there is nothing to wait for.
            room.recover();
        }
    }

    /// Where each live room stands, for comparison with the logs.
    #[must_use]
    pub fn positions(&self) -> Vec<(Channel, Cursor)> {
        let mut positions = Vec::new();
        for shard in self.lock_shards() {
            let live = shard
                .rooms
                .iter()
                .filter(|(_, room)| room.subscription == SubscriptionState::Active && !room.needs_backfill());
            positions.extend(live.filter_map(|(channel, room)| Some((channel.clone(), room.position?))));
        }
        positions
    }

    /// Has a room subscribed anew, and then its log read, when it still stands at `position`: the subscription itself may
    /// be what was lost. Returns whether it does.
    pub fn resubscribe_if_at(&self, channel: &Channel, position: Cursor) -> bool {
        let mut guard = self.shard(channel.as_str()).lock();
        let shard = &mut *guard;
        let Some(room) = shard.rooms.get_mut(channel) else { return false };
        let backfill_queue =
            room.subscription == SubscriptionState::Active && room.position == Some(position) && room.mark_gap();
        if backfill_queue {
            room.subscription = SubscriptionState::Pending;
            shard.to_subscribe.push(channel.clone());
            self.subscriptions_changed.notify_one();
        }
        backfill_queue
    }

    /// Waits until [`Hub::take_backfills`] may have something.
    pub async fn backfill_requested(&self) {
        self.backfill_requested.notified().await;
    }

    /// Rooms whose log is to be read now, and from which event on; at most `limit`.
    /// Each must come back through [`Hub::apply_backfill`] or [`Hub::backfill_failed`].
    pub fn take_backfills(&self, limit: usize) -> Vec<(Channel, Cursor)> {
        let mut taken = Vec::new();
        for mut shard in self.lock_shards() {
            while taken.len() < limit
                && let Some(channel) = shard.backfill_queue.pop()
            {
                if let Some(position) = shard.rooms.get_mut(&channel).and_then(Room::start_backfill) {
                    taken.push((channel, position));
                }
            }
        }
        taken
    }

    /// What the log has shown. The sockets get it before anything that came meanwhile.
    pub fn apply_backfill(&self, channel: &Channel, backfill: Backfill) {
        let mut guard = self.shard(channel.as_str()).lock();
        let shard = &mut *guard;
        let Some(room) = shard.rooms.get_mut(channel) else { return };
        let caught_up = room.finish_backfill(backfill);
        if !caught_up && room.subscription == SubscriptionState::Active {
            shard.backfill_queue.push(channel.clone());
            self.backfill_requested.notify_one();
        }
    }

    /// The log could not be read: it must be tried again.
    pub fn backfill_failed(&self, channel: &Channel) {
        let mut guard = self.shard(channel.as_str()).lock();
        let shard = &mut *guard;
        let Some(room) = shard.rooms.get_mut(channel) else { return };
        room.backfill_failed();
        if room.needs_backfill() && room.subscription == SubscriptionState::Active {
            shard.backfill_queue.push(channel.clone());
            self.backfill_requested.notify_one();
        }
    }
}
