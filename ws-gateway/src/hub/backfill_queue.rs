//! Gaps in the events of rooms, and how rooms close them from the event log.
//!
//! 1. A room notices a gap. From then on it buffers live events. The hub queues it once its subscription is confirmed.
//! 2. `pubsub::backfill_reader` takes the room ([`Hub::take_backfills`]) and reads the log from the room's position.
//! 3. The room sends what the log held, then the buffered events ([`Hub::apply_backfill`]).

use shared::contract::event::Cursor;
use shared::contract::redis::keys::Channel;
use uuid::Uuid;

use super::Hub;
use super::backfill::Backfill;
use super::room::{Room, SubscriptionState};

impl Hub {
    /// An API service reports that it cannot publish a conversation's events, or that it can again.
    pub(crate) fn record_publish_outage(&self, channel: &str, instance: Uuid, is_recovered: bool) {
        if let Some(room) = self.shard(channel).lock().rooms.get_mut(channel) {
            room.record_publish_outage(instance, is_recovered);
        }
    }

    /// Ends outages that no API service repeats. Their rooms read the log once more and then recover.
    pub(crate) fn expire_publish_outages(&self) {
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

    /// An event could not be decoded. The room reads it from the log.
    pub(crate) fn mark_gap(&self, channel: &str) {
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
            // An inbox has no log to wait for.
            room.recover();
        }
    }

    /// The positions of all active rooms, for comparison with their logs.
    #[must_use]
    pub(crate) fn positions(&self) -> Vec<(Channel, Cursor)> {
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

    /// If the room is still at `position`, subscribes it again and then reads its log. The subscription itself may
    /// have been lost. Returns whether it did.
    pub(crate) fn resubscribe_if_at(&self, channel: &Channel, position: Cursor) -> bool {
        let mut guard = self.shard(channel.as_str()).lock();
        let shard = &mut *guard;
        let Some(room) = shard.rooms.get_mut(channel) else { return false };
        let is_unchanged =
            room.subscription == SubscriptionState::Active && room.position == Some(position) && room.mark_gap();
        if is_unchanged {
            room.subscription = SubscriptionState::Pending;
            shard.to_subscribe.push(channel.clone());
            self.subscriptions_changed.notify_one();
        }
        is_unchanged
    }

    /// Waits until [`Hub::take_backfills`] may return rooms.
    pub(crate) async fn backfill_requested(&self) {
        self.backfill_requested.notified().await;
    }

    /// Takes at most `limit` rooms whose log is to be read, each with its position. Each must be returned with
    /// [`Hub::apply_backfill`] or [`Hub::backfill_failed`].
    pub(crate) fn take_backfills(&self, limit: usize) -> Vec<(Channel, Cursor)> {
        let mut rooms = Vec::new();
        for mut shard in self.lock_shards() {
            while rooms.len() < limit
                && let Some(channel) = shard.backfill_queue.pop()
            {
                if let Some(position) = shard.rooms.get_mut(&channel).and_then(Room::start_backfill) {
                    rooms.push((channel, position));
                }
            }
        }
        rooms
    }

    /// Sends the result of a backfill, before the events that arrived during it.
    pub(crate) fn apply_backfill(&self, channel: &Channel, backfill: Backfill) {
        let mut guard = self.shard(channel.as_str()).lock();
        let shard = &mut *guard;
        let Some(room) = shard.rooms.get_mut(channel) else { return };
        let caught_up = room.finish_backfill(backfill);
        if !caught_up && room.subscription == SubscriptionState::Active {
            shard.backfill_queue.push(channel.clone());
            self.backfill_requested.notify_one();
        }
    }

    /// The log could not be read. The room is queued again.
    pub(crate) fn backfill_failed(&self, channel: &Channel) {
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
