//! Rooms: the sockets of each conversation or inbox, and the last event that they have.
//!
//! The hub does not know TCP. Of Redis it knows only which slots are served. The subscriber reports events and gaps. The
//! hub says which channels to subscribe and which logs to read. Sockets receive the events of a log in order, each once.

mod backfill;
mod backfill_queue;
mod coverage;
mod epoch;
mod membership;
mod revocation;
mod room;
mod subscriptions;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};
use shared::contract::event::Event;
use shared::contract::redis::keys::Channel;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::redis::SlotSet;
use crate::socket::{EncodedEvent, QueueItem};
pub(crate) use backfill::Backfill;
pub(crate) use membership::{ChannelGuard, JoinError, Membership};
use room::{Received, Room, SubscriptionState};
pub(crate) use subscriptions::SubscriptionChanges;

/// Shards have separate locks, so that joining sockets do not delay events of other conversations.
const SHARDS: usize = 64;

/// The rooms of all topics that a socket of this gateway subscribes to.
#[derive(Debug)]
pub(crate) struct Hub {
    shards: [Mutex<Shard>; SHARDS],
    /// The shard that is asked first for its changes. It rotates, so that no shard starves.
    first_shard: AtomicUsize,
    subscriptions_changed: Notify,
    backfill_requested: Notify,
}

/// The rooms of one shard, under one lock.
#[derive(Debug, Default)]
struct Shard {
    rooms: HashMap<Channel, Room>,
    to_subscribe: Vec<Channel>,
    to_unsubscribe: Vec<Channel>,
    /// Rooms whose log must be read, each once.
    backfill_queue: Vec<Channel>,
    /// Slots that Redis serves now.
    served_slots: SlotSet,
    /// Whether Redis ever served a slot.
    has_ever_connected: bool,
    is_draining: bool,
    epoch: u64,
}

impl Hub {
    /// An empty hub, not connected.
    #[must_use]
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            first_shard: AtomicUsize::new(0),
            subscriptions_changed: Notify::new(),
            backfill_requested: Notify::new(),
        })
    }

    fn shard(&self, channel: &str) -> &Mutex<Shard> {
        &self.shards[shard_index(channel)]
    }

    /// All shards, starting with a different one each time.
    fn lock_shards(&self) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        let first_shard = self.first_shard.fetch_add(1, Ordering::Relaxed) % SHARDS;
        let (before, from) = self.shards.split_at(first_shard);
        from.iter().chain(before).map(Mutex::lock)
    }

    /// Sends a participant's presence to a conversation. Returns `false`, and sends nothing, if it is unknown whether
    /// the conversation has a message.
    pub(crate) fn send(&self, channel: &Channel, delivery: &Arc<EncodedEvent>) -> bool {
        let guard = self.shard(channel.as_str()).lock();
        let Some(room) = guard.rooms.get(channel) else { return true };
        if room.is_shared {
            room.send(&QueueItem::Event(delivery.clone()));
        }
        room.is_shared
    }

    /// The conversation has a message, so its participants may see each other's presence.
    pub(crate) fn mark_shared(&self, channel: &Channel) {
        if let Some(room) = self.shard(channel.as_str()).lock().rooms.get_mut(channel) {
            room.mark_shared(Instant::now());
        }
    }

    /// Dispatches a live event. Returns `true` if the caller must check whether the conversation has a message. Until
    /// the answer arrives ([`Hub::mark_shared`]), the room withholds typing notices.
    pub(crate) fn dispatch(&self, channel: &str, event: Event<'_>) -> bool {
        let mut guard = self.shard(channel).lock();
        let shard = &mut *guard;
        let Some(room) = shard.rooms.get_mut(channel) else { return false };
        let delivery = EncodedEvent::new(event);
        let received = room.receive(delivery);
        // An unconfirmed room is queued by `confirm_subscriptions`.
        if received == Received::NeedsBackfill
            && room.subscription == SubscriptionState::Active
            && let Some((channel, _)) = shard.rooms.get_key_value(channel)
        {
            shard.backfill_queue.push(channel.clone());
            self.backfill_requested.notify_one();
        }
        received == Received::NeedsCheck
    }

    /// Rejects further sockets, and tells every open one that this gateway shuts down.
    pub(crate) fn begin_drain(&self) {
        for mut shard in self.lock_shards() {
            shard.is_draining = true;
            for socket in shard.rooms.values().flat_map(|room| &room.sockets) {
                socket.push(QueueItem::GoingAway);
            }
        }
    }
}

/// The shard of a channel. A conversation's name ends with digits of a UUIDv5, which are uniform. Names of inboxes
/// end with external ids, which may be alike, so they are hashed (FNV-1a).
fn shard_index(channel: &str) -> usize {
    if !channel.starts_with("chat:") {
        let mix = |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        return channel.bytes().fold(0x811c_9dc5, mix) as usize % SHARDS;
    }
    let [.., high, low, _brace] = channel.as_bytes() else { return 0 };
    let digit = |byte: &u8| char::from(*byte).to_digit(16).unwrap_or(0) as usize;
    (digit(high) * 16 + digit(low)) % SHARDS
}

#[cfg(test)]
pub(crate) mod tests;
