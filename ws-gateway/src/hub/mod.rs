//! Rooms: the sockets of each conversation or inbox, and the last event that they have.
//!
//! The hub knows neither Redis nor TCP. The subscriber reports events and gaps; the hub says which channels to
//! subscribe and which logs to read. Sockets receive the events of a log in order, each once.

mod backfill;
mod coverage;
mod membership;
pub mod outbound_queue;
mod room;
mod subscriptions;
pub(crate) mod topic;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};
use shared::contract::event::Event;
use shared::contract::redis::keys::Channel;
use shared::contract::revocation::RevocationSet;
use shared::contract::token::Principal;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::hub::outbound_queue::{EncodedEvent, OutboundQueue, QueueItem};
use crate::redis::SlotSet;
use crate::session::close_reason::CloseReason;
pub use backfill::Backfill;
pub use membership::{ChannelGuard, Membership};
use room::{Received, Room, SubscriptionState};
pub use subscriptions::SubscriptionChanges;

/// Incremented whenever events may have been lost. A position that was read under one epoch is worthless under the
/// next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch(u64);

/// Why a socket cannot join now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// Redis does not serve this channel.
    #[error("redis is not connected")]
    Disconnected,
    /// This gateway shuts down.
    #[error("gateway is shutting down")]
    GoingAway,
}

/// Shards have separate locks, so that joining sockets do not delay events of other conversations.
const SHARDS: usize = 64;

/// The rooms of all topics that a socket of this gateway subscribes to.
#[derive(Debug)]
pub struct Hub {
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
    pub fn new() -> Arc<Self> {
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

    /// Adds a socket to a room. From now on its queue receives the room's events.
    ///
    /// # Errors
    /// [`JoinError`]
    pub fn join(self: &Arc<Self>, channel: Channel, outbound: Arc<OutboundQueue>) -> Result<Membership, JoinError> {
        let mut guard = self.shard(channel.as_str()).lock();
        let shard = &mut *guard;
        if shard.is_draining {
            return Err(JoinError::GoingAway);
        }
        if !shard.served_slots.contains(channel.as_str()) {
            return Err(JoinError::Disconnected);
        }
        let (channel, room) = match shard.rooms.entry(channel) {
            // Shares the name with the room.
            Entry::Occupied(entry) => (entry.key().clone(), entry.into_mut()),
            Entry::Vacant(entry) => {
                let channel = entry.key().clone();
                shard.to_subscribe.push(channel.clone());
                self.subscriptions_changed.notify_one();
                let room = Room::new(&channel);
                (channel, entry.insert(room))
            }
        };
        let (subscribed, confirmed) = oneshot::channel();
        let joined_early = room.position.is_none();
        room.sockets.push(outbound.clone());
        match room.subscription {
            // The receiver still exists.
            SubscriptionState::Active => drop(subscribed.send(Epoch(shard.epoch))),
            SubscriptionState::Pending | SubscriptionState::Subscribing => room.subscribe_waiters.push(subscribed),
        }
        drop(guard);
        Ok(Membership { hub: self.clone(), channel, outbound, subscribed: Some(confirmed), joined_early })
    }

    fn leave(&self, channel: &Channel, outbound: &Arc<OutboundQueue>) {
        let mut guard = self.shard(channel.as_str()).lock();
        let shard = &mut *guard;
        let Some(room) = shard.rooms.get_mut(channel) else { return };
        room.sockets.retain(|socket| !Arc::ptr_eq(socket, outbound));
        if room.is_empty() {
            // The room stays until the subscriber takes the changes. A socket that rejoins before that finds it
            // unchanged.
            shard.to_unsubscribe.push(channel.clone());
            self.subscriptions_changed.notify_one();
        }
    }

    /// Keeps a channel subscribed without a socket, until the guard is dropped.
    pub fn hold_channel(self: &Arc<Self>, channel: Channel) -> ChannelGuard {
        let mut shard = self.shard(channel.as_str()).lock();
        let room = match shard.rooms.get_mut(&channel) {
            Some(room) => room,
            None => {
                shard.to_subscribe.push(channel.clone());
                self.subscriptions_changed.notify_one();
                shard.rooms.entry(channel.clone()).or_insert_with_key(Room::new)
            }
        };
        room.holders += 1;
        drop(shard);
        ChannelGuard { hub: self.clone(), channel }
    }

    fn release_channel(&self, channel: &Channel) {
        let mut shard = self.shard(channel.as_str()).lock();
        let Some(room) = shard.rooms.get_mut(channel) else { return };
        room.holders -= 1;
        if room.is_empty() {
            shard.to_unsubscribe.push(channel.clone());
            self.subscriptions_changed.notify_one();
        }
    }

    /// Sends a participant's presence to a conversation. Returns `false`, and sends nothing, if it is unknown whether
    /// the conversation has a message.
    pub fn send(&self, channel: &Channel, delivery: &Arc<EncodedEvent>) -> bool {
        let guard = self.shard(channel.as_str()).lock();
        let Some(room) = guard.rooms.get(channel) else { return true };
        if room.is_shared {
            room.send(&QueueItem::Event(delivery.clone()));
        }
        room.is_shared
    }

    /// The conversation has a message, so its participants may see each other's presence.
    pub fn mark_shared(&self, channel: &Channel) {
        if let Some(room) = self.shard(channel.as_str()).lock().rooms.get_mut(channel) {
            room.mark_shared(Instant::now());
        }
    }

    /// Dispatches a live event. Returns `true` if the caller must check whether the conversation has a message. Until
    /// the answer arrives ([`Hub::mark_shared`]), the room withholds typing notices.
    pub fn dispatch(&self, channel: &str, event: Event<'_>) -> bool {
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

    /// Closes the sockets whose token was revoked. Returns how many.
    ///
    /// One sweep per change is cheaper than waking every socket to check itself.
    pub fn close_revoked(&self, revocations: &RevocationSet) -> usize {
        self.close_sockets_where(|principal| revocations.is_revoked(principal.identity()))
    }

    /// Closes the sockets whose token is no longer valid. Returns how many.
    pub fn close_sockets_where(&self, is_invalid: impl Fn(&Principal) -> bool) -> usize {
        // The predicate runs without the lock, because it is slow enough to delay events.
        let mut sockets = Vec::new();
        let mut closed = 0;
        for shard in &self.shards {
            sockets.extend(shard.lock().rooms.values().flat_map(|room| room.sockets.iter().cloned()));
            let revoked = sockets.drain(..).filter(|socket| is_invalid(&socket.principal()));
            closed += revoked.inspect(|socket| socket.close(CloseReason::TokenInvalid)).count();
        }
        closed
    }

    /// Rejects further sockets, and tells every open one that this gateway shuts down.
    pub fn begin_drain(&self) {
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
