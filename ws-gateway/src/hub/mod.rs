//! Which sockets hear which conversation, and up to which event they have; and which of them hear whose inbox.
//!
//! It knows neither Redis nor TCP: the relay tells it what came and what was lost, it says which channels
//! are worth hearing and which logs must be read again. It never lets a socket see events out of order.

mod coverage;
pub mod outbound_queue;
mod room;
pub(crate) mod topic;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};
use shared::channel::Channel;
use shared::event::{Cursor, Event};
use shared::revocation::RevocationSet;
use shared::token::Principal;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

use crate::hub::outbound_queue::{EncodedEvent, OutboundQueue, QueueItem};
use crate::redis::SlotSet;
use crate::session::close_reason::CloseReason;
use room::{Received, Room, SubscriptionState};

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

/// What reading a conversation's log again has shown.
#[derive(Debug)]
pub enum Backfill {
    /// The log still holds the event seen last; these came after it.
    Events(Vec<Arc<EncodedEvent>>),
    /// It does not: what was missed cannot be known. The log's newest entry is this.
    Gap(Cursor),
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
        let state = &mut *guard;
        if state.is_draining {
            return Err(JoinError::GoingAway);
        }
        if !state.served_slots.contains(channel.as_str()) {
            return Err(JoinError::Disconnected);
        }
        let (channel, room) = match state.rooms.entry(channel) {
            // The name is kept once.
            Entry::Occupied(entry) => (entry.key().clone(), entry.into_mut()),
            Entry::Vacant(entry) => {
                let channel = entry.key().clone();
                state.to_subscribe.push(channel.clone());
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
            SubscriptionState::Active => drop(subscribed.send(Epoch(state.epoch))),
            SubscriptionState::Pending | SubscriptionState::Subscribing => room.subscribe_waiters.push(subscribed),
        }
        drop(guard);
        Ok(Membership { hub: self.clone(), channel, outbound, subscribed: Some(confirmed), joined_early })
    }

    fn leave(&self, channel: &Channel, outbound: &Arc<OutboundQueue>) {
        let mut guard = self.shard(channel.as_str()).lock();
        let state = &mut *guard;
        let Some(room) = state.rooms.get_mut(channel) else { return };
        room.sockets.retain(|socket| !Arc::ptr_eq(socket, outbound));
        if room.is_empty() {
            // The room stays until the relay asks: who comes back before that finds it as it was.
            state.to_unsubscribe.push(channel.clone());
            self.subscriptions_changed.notify_one();
        }
    }

    /// Has a channel heard that no socket listens to, for as long as the answer is kept.
    pub fn hold_channel(self: &Arc<Self>, channel: Channel) -> ChannelGuard {
        let mut state = self.shard(channel.as_str()).lock();
        let room = match state.rooms.get_mut(&channel) {
            Some(room) => room,
            None => {
                state.to_subscribe.push(channel.clone());
                self.subscriptions_changed.notify_one();
                state.rooms.entry(channel.clone()).or_insert_with_key(Room::new)
            }
        };
        room.holders += 1;
        drop(state);
        ChannelGuard { hub: self.clone(), channel }
    }

    fn release_channel(&self, channel: &Channel) {
        let mut state = self.shard(channel.as_str()).lock();
        let Some(room) = state.rooms.get_mut(channel) else { return };
        room.holders -= 1;
        if room.is_empty() {
            state.to_unsubscribe.push(channel.clone());
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
        let state = &mut *guard;
        let Some(room) = state.rooms.get_mut(channel) else { return false };
        let delivery = EncodedEvent::new(event);
        let received = room.receive(delivery);
        // A room whose subscription is not confirmed is looked at when it is.
        if received == Received::NeedsBackfill
            && room.subscription == SubscriptionState::Active
            && let Some((channel, _)) = state.rooms.get_key_value(channel)
        {
            state.backfill_queue.push(channel.clone());
            self.backfill_requested.notify_one();
        }
        received == Received::NeedsCheck
    }

    /// An API service says that Redis refuses a conversation's events, or takes them again.
    pub fn record_publish_outage(&self, channel: &str, instance: Uuid, is_recovered: bool) {
        if let Some(room) = self.shard(channel).lock().rooms.get_mut(channel) {
            room.record_publish_outage(instance, is_recovered);
        }
    }

    /// Forgets announcements that nobody has repeated: their rooms read their logs, and then are well.
    pub fn expire_publish_outages(&self) {
        for mut guard in self.lock_shards() {
            let state = &mut *guard;
            let stale =
                state.rooms.iter_mut().filter_map(|(channel, room)| room.expire_publish_outages().then_some(channel));
            let stale: Vec<Channel> = stale.cloned().collect();
            if !stale.is_empty() {
                state.backfill_queue.extend(stale);
                self.backfill_requested.notify_one();
            }
        }
    }

    /// What came on a channel could not be read: the log is, in its place.
    pub fn mark_gap(&self, channel: &str) {
        let mut guard = self.shard(channel).lock();
        let state = &mut *guard;
        let Some(room) = state.rooms.get_mut(channel) else { return };
        let needs_backfill = room.mark_gap();
        if room.subscription != SubscriptionState::Active {
            return;
        }
        if needs_backfill && let Some((channel, _)) = state.rooms.get_key_value(channel) {
            state.backfill_queue.push(channel.clone());
            self.backfill_requested.notify_one();
        } else if let Some(room) = state.rooms.get_mut(channel).filter(|room| !room.needs_backfill()) {
            // Without a log there is nothing to wait for.
            room.recover();
        }
    }

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
            let state = &mut *guard;
            let Some(room) = state.rooms.get_mut(channel) else { continue };
            room.subscription = SubscriptionState::Active;
            for waiter in room.subscribe_waiters.drain(..) {
                // Who gave up waiting is not there to hear it.
                let _gone = waiter.send(Epoch(state.epoch));
            }
            if room.needs_backfill() {
                state.backfill_queue.push(channel.clone());
                self.backfill_requested.notify_one();
            } else {
                room.recover();
            }
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
        let state = &mut *guard;
        let Some(room) = state.rooms.get_mut(channel) else { return false };
        let backfill_queue =
            room.subscription == SubscriptionState::Active && room.position == Some(position) && room.mark_gap();
        if backfill_queue {
            room.subscription = SubscriptionState::Pending;
            state.to_subscribe.push(channel.clone());
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
        let state = &mut *guard;
        let Some(room) = state.rooms.get_mut(channel) else { return };
        let caught_up = room.finish_backfill(backfill);
        if !caught_up && room.subscription == SubscriptionState::Active {
            state.backfill_queue.push(channel.clone());
            self.backfill_requested.notify_one();
        }
    }

    /// The log could not be read: it must be tried again.
    pub fn backfill_failed(&self, channel: &Channel) {
        let mut guard = self.shard(channel.as_str()).lock();
        let state = &mut *guard;
        let Some(room) = state.rooms.get_mut(channel) else { return };
        room.backfill_failed();
        if room.needs_backfill() && room.subscription == SubscriptionState::Active {
            state.backfill_queue.push(channel.clone());
            self.backfill_requested.notify_one();
        }
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

/// Has a channel heard until this is dropped.
#[derive(Debug)]
pub struct ChannelGuard {
    hub: Arc<Hub>,
    channel: Channel,
}

impl Drop for ChannelGuard {
    fn drop(&mut self) {
        self.hub.release_channel(&self.channel);
    }
}

/// A socket's place in a room; it leaves when this is dropped.
#[derive(Debug)]
pub struct Membership {
    hub: Arc<Hub>,
    channel: Channel,
    outbound: Arc<OutboundQueue>,
    subscribed: Option<oneshot::Receiver<Epoch>>,
    /// It joined before the room had a position.
    joined_early: bool,
}

impl Membership {
    /// Where the socket listens.
    #[must_use]
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// The socket's queue.
    #[must_use]
    pub fn outbound(&self) -> &Arc<OutboundQueue> {
        &self.outbound
    }

    /// Waits until Redis has confirmed the subscription. To be called once.
    ///
    /// # Errors
    /// [`JoinError::Disconnected`] when the connection is lost before.
    pub async fn wait_until_subscribed(&mut self) -> Result<Epoch, JoinError> {
        match self.subscribed.take() {
            Some(confirmed) => confirmed.await.map_err(|_| JoinError::Disconnected),
            None => Err(JoinError::Disconnected),
        }
    }

    /// Tells the hub up to where this socket has read the log itself. `false` when events may have been lost since
    /// `epoch`, or passed by between what was read and what is heard: then the socket must join anew.
    #[must_use]
    pub fn confirm_position(&self, epoch: Epoch, position: Cursor) -> bool {
        let mut state = self.hub.shard(self.channel.as_str()).lock();
        if state.epoch != epoch.0 {
            return false;
        }
        let Some(room) = state.rooms.get_mut(&self.channel) else { return false };
        let is_confirmed = room.confirm_position(position, self.joined_early);
        if is_confirmed && room.is_degraded() {
            // The others have heard it before this one came.
            self.outbound.push(QueueItem::Degraded);
        }
        is_confirmed
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.hub.leave(&self.channel, &self.outbound);
    }
}

#[cfg(test)]
pub(crate) mod tests;
