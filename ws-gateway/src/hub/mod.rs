//! Which sockets hear which conversation, and up to which event they have; and which of them hear whose inbox.
//!
//! It knows neither Redis nor TCP: the relay tells it what came and what was lost, it says which channels
//! are worth hearing and which logs must be read again. It never lets a socket see events out of order.

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
use shared::channel::Channel;
use shared::event::Event;
use shared::revocation::RevocationSet;
use shared::token::Principal;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::hub::outbound_queue::{EncodedEvent, OutboundQueue, QueueItem};
use crate::redis::SlotSet;
use crate::session::close_reason::CloseReason;
pub use backfill::Backfill;
pub use membership::{ChannelGuard, Membership};
use room::{Received, Room, SubscriptionState};
pub use subscriptions::SubscriptionChanges;

/// Counts the moments at which events may have been lost. What was learnt under one epoch says nothing under the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch(u64);

/// Why nobody can join now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// Redis is out of reach.
    #[error("live relay is cut")]
    Disconnected,
    /// This gateway shuts down.
    #[error("this gateway is going away")]
    GoingAway,
}

/// Each has a lock of its own, so that sockets that come and go do not hold up events of other conversations.
const SHARDS: usize = 64;

/// The rooms of all conversations that somebody on this gateway listens to.
#[derive(Debug)]
pub struct Hub {
    shards: [Mutex<Shard>; SHARDS],
    /// Which one is asked first what it wants: another one each time, so that none waits for ever.
    first_shard: AtomicUsize,
    subscriptions_changed: Notify,
    backfill_requested: Notify,
}

/// Rooms whose channels fall together, and all that is to be known of them under one lock.
#[derive(Debug, Default)]
struct Shard {
    rooms: HashMap<Channel, Room>,
    to_subscribe: Vec<Channel>,
    to_unsubscribe: Vec<Channel>,
    /// Rooms whose log is to be read, each once.
    backfill_queue: Vec<Channel>,
    /// Which channels Redis serves now.
    served_slots: SlotSet,
    /// Whether it ever served any.
    has_ever_connected: bool,
    is_draining: bool,
    epoch: u64,
}

impl Hub {
    /// Nobody listens, and Redis is not reached yet.
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

    /// All of them, each time beginning with another one.
    fn lock_shards(&self) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        let first_shard = self.first_shard.fetch_add(1, Ordering::Relaxed) % SHARDS;
        let (before, from) = self.shards.split_at(first_shard);
        from.iter().chain(before).map(Mutex::lock)
    }

    /// Puts a socket into a room: from now on its queue gets what is dispatched there.
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
            // The name is kept once.
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
            // The receiver is right here.
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
            // The room stays until the relay asks: who comes back before that finds it as it was.
            shard.to_unsubscribe.push(channel.clone());
            self.subscriptions_changed.notify_one();
        }
    }

    /// Has a channel heard that no socket listens to, for as long as the answer is kept.
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

    /// Tells a conversation's sockets what is not of it, but of its participants. `false` when nobody knows whether anything
    /// was ever written there: then it is not told.
    pub fn send(&self, channel: &Channel, delivery: &Arc<EncodedEvent>) -> bool {
        let guard = self.shard(channel.as_str()).lock();
        let Some(room) = guard.rooms.get(channel) else { return true };
        if room.is_shared {
            room.send(&QueueItem::Event(delivery.clone()));
        }
        room.is_shared
    }

    /// Something was written in this conversation: its sockets may be told of its participants.
    pub fn mark_shared(&self, channel: &Channel) {
        if let Some(room) = self.shard(channel.as_str()).lock().rooms.get_mut(channel) {
            room.mark_shared(Instant::now());
        }
    }

    /// Passes on what came on a channel. Returns whether it must be asked if anything was ever written there: only then, and with the
    /// answer ([`Hub::mark_shared`]), the other side's typing is told.
    pub fn dispatch(&self, channel: &str, event: Event<'_>) -> bool {
        let mut guard = self.shard(channel).lock();
        let shard = &mut *guard;
        let Some(room) = shard.rooms.get_mut(channel) else { return false };
        let delivery = EncodedEvent::new(event);
        let received = room.receive(delivery);
        // A room whose subscription is not confirmed is looked at when it is.
        if received == Received::NeedsBackfill
            && room.subscription == SubscriptionState::Active
            && let Some((channel, _)) = shard.rooms.get_key_value(channel)
        {
            shard.backfill_queue.push(channel.clone());
            self.backfill_requested.notify_one();
        }
        received == Received::NeedsCheck
    }

    /// Closes the sockets whose token was taken back. Returns how many.
    ///
    /// One sweep over all of them when there is news costs less than waking each to look for itself, and nothing at all
    /// when there is none.
    pub fn close_revoked(&self, revocations: &RevocationSet) -> usize {
        self.close_sockets_where(|principal| revocations.is_revoked(principal))
    }

    /// Closes the sockets of tokens that are good no more. Returns how many.
    pub fn close_sockets_where(&self, is_invalid: impl Fn(&Principal) -> bool) -> usize {
        // Looked up without the lock: that takes long enough for events to notice.
        let mut sockets = Vec::new();
        let mut closed = 0;
        for shard in &self.shards {
            sockets.extend(shard.lock().rooms.values().flat_map(|room| room.sockets.iter().cloned()));
            let revoked = sockets.drain(..).filter(|socket| is_invalid(&socket.principal()));
            closed += revoked.inspect(|socket| socket.close(CloseReason::TokenInvalid)).count();
        }
        closed
    }

    /// Lets nobody in any more and tells every socket that this gateway shuts down.
    pub fn begin_drain(&self) {
        for mut shard in self.lock_shards() {
            shard.is_draining = true;
            for socket in shard.rooms.values().flat_map(|room| &room.sockets) {
                socket.push(QueueItem::GoingAway);
            }
        }
    }
}

/// Where a channel's room is. The last digits of a conversation's name are those of a UUIDv5, which are as good as any hash.
/// Other names end with the EHR's, which may be all alike (FNV-1a).
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
