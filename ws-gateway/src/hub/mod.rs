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
use room::{Received, Room, Stage};

/// Counts the moments at which events may have been lost. What was learnt under one epoch says nothing under the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch(u64);

/// Why nobody can join now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Redis is out of reach.
    #[error("live relay is cut")]
    Cut,
    /// This gateway shuts down.
    #[error("this gateway is going away")]
    GoingAway,
}

/// Channels to subscribe and to unsubscribe, in one go.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Newly wanted.
    pub subscribe: Vec<Channel>,
    /// Wanted by nobody any more. To be sent first: a channel may be in both.
    pub unsubscribe: Vec<Channel>,
}

impl Interest {
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
    Missed(Vec<Arc<EncodedEvent>>),
    /// It does not: what was missed cannot be known. The log's newest entry is this.
    Lost(Cursor),
}

/// Each has a lock of its own, so that sockets that come and go do not hold up events of other conversations.
const SHARDS: usize = 64;

/// The rooms of all conversations that somebody on this gateway listens to.
#[derive(Debug)]
pub struct Hub {
    shards: [Mutex<Shard>; SHARDS],
    /// Which one is asked first what it wants: another one each time, so that none waits for ever.
    first: AtomicUsize,
    interest_changed: Notify,
    fell_behind: Notify,
}

/// Rooms whose channels fall together, and all that is to be known of them under one lock.
#[derive(Debug, Default)]
struct Shard {
    rooms: HashMap<Channel, Room>,
    wanted: Vec<Channel>,
    idle: Vec<Channel>,
    /// Rooms whose log is to be read, each once.
    behind: Vec<Channel>,
    /// Which channels Redis serves now.
    reach: SlotSet,
    /// Whether it ever served any.
    was_reached: bool,
    going_away: bool,
    epoch: u64,
}

impl Hub {
    /// Nobody listens, and Redis is not reached yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            first: AtomicUsize::new(0),
            interest_changed: Notify::new(),
            fell_behind: Notify::new(),
        })
    }

    fn shard(&self, channel: &str) -> &Mutex<Shard> {
        &self.shards[place(channel)]
    }

    /// All of them, each time beginning with another one.
    fn all(&self) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        let first = self.first.fetch_add(1, Ordering::Relaxed) % SHARDS;
        let (before, from) = self.shards.split_at(first);
        from.iter().chain(before).map(Mutex::lock)
    }

    /// Puts a socket into a room: from now on its queue gets what is dispatched there.
    ///
    /// # Errors
    /// [`Refused`]
    pub fn join(self: &Arc<Self>, channel: Channel, outbound: Arc<OutboundQueue>) -> Result<Membership, Refused> {
        let mut guard = self.shard(channel.as_str()).lock();
        let state = &mut *guard;
        if state.going_away {
            return Err(Refused::GoingAway);
        }
        if !state.reach.contains(channel.as_str()) {
            return Err(Refused::Cut);
        }
        let (channel, room) = match state.rooms.entry(channel) {
            // The name is kept once.
            Entry::Occupied(entry) => (entry.key().clone(), entry.into_mut()),
            Entry::Vacant(entry) => {
                let channel = entry.key().clone();
                state.wanted.push(channel.clone());
                self.interest_changed.notify_one();
                let room = Room::of(&channel);
                (channel, entry.insert(room))
            }
        };
        let (subscribed, heard) = oneshot::channel();
        let early = room.position.is_none();
        room.sockets.push(outbound.clone());
        match room.stage {
            // The receiver is right here.
            Stage::Live => drop(subscribed.send(Epoch(state.epoch))),
            Stage::Wanted | Stage::Subscribing => room.waiting.push(subscribed),
        }
        drop(guard);
        Ok(Membership { hub: self.clone(), channel, outbound, subscribed: Some(heard), early })
    }

    fn leave(&self, channel: &Channel, outbound: &Arc<OutboundQueue>) {
        let mut guard = self.shard(channel.as_str()).lock();
        let state = &mut *guard;
        let Some(room) = state.rooms.get_mut(channel) else { return };
        room.sockets.retain(|socket| !Arc::ptr_eq(socket, outbound));
        if room.is_empty() {
            // The room stays until the relay asks: who comes back before that finds it as it was.
            state.idle.push(channel.clone());
            self.interest_changed.notify_one();
        }
    }

    /// Has a channel heard that no socket listens to, for as long as the answer is kept.
    pub fn attend(self: &Arc<Self>, channel: Channel) -> Attendance {
        let mut state = self.shard(channel.as_str()).lock();
        let room = match state.rooms.get_mut(&channel) {
            Some(room) => room,
            None => {
                state.wanted.push(channel.clone());
                self.interest_changed.notify_one();
                state.rooms.entry(channel.clone()).or_insert_with_key(Room::of)
            }
        };
        room.attendants += 1;
        drop(state);
        Attendance { hub: self.clone(), channel }
    }

    fn stop_attending(&self, channel: &Channel) {
        let mut state = self.shard(channel.as_str()).lock();
        let Some(room) = state.rooms.get_mut(channel) else { return };
        room.attendants -= 1;
        if room.is_empty() {
            state.idle.push(channel.clone());
            self.interest_changed.notify_one();
        }
    }

    /// Tells a conversation's sockets what is not of it, but of its participants. `false` when nobody knows whether anything
    /// was ever written there: then it is not told.
    pub fn tell(&self, channel: &Channel, delivery: &Arc<EncodedEvent>) -> bool {
        let guard = self.shard(channel.as_str()).lock();
        let Some(room) = guard.rooms.get(channel) else { return true };
        if room.is_shared {
            room.tell(&QueueItem::Event(delivery.clone()));
        }
        room.is_shared
    }

    /// Something was written in this conversation: its sockets may be told of its participants.
    pub fn may_tell(&self, channel: &Channel) {
        if let Some(room) = self.shard(channel.as_str()).lock().rooms.get_mut(channel) {
            room.share(Instant::now());
        }
    }

    /// Passes on what came on a channel. Returns whether it must be asked if anything was ever written there: only then, and with the
    /// answer ([`Hub::may_tell`]), the other side's typing is told.
    pub fn dispatch(&self, channel: &str, event: Event<'_>) -> bool {
        let mut guard = self.shard(channel).lock();
        let state = &mut *guard;
        let Some(room) = state.rooms.get_mut(channel) else { return false };
        let delivery = EncodedEvent::new(event);
        let received = room.receive(delivery);
        // A room whose subscription is not confirmed is looked at when it is.
        if received == Received::Behind
            && room.stage == Stage::Live
            && let Some((channel, _)) = state.rooms.get_key_value(channel)
        {
            state.behind.push(channel.clone());
            self.fell_behind.notify_one();
        }
        received == Received::Unknown
    }

    /// An API service says that Redis refuses a conversation's events, or takes them again.
    pub fn announced(&self, channel: &str, by: Uuid, is_over: bool) {
        if let Some(room) = self.shard(channel).lock().rooms.get_mut(channel) {
            room.announced(by, is_over);
        }
    }

    /// Forgets announcements that nobody has repeated: their rooms read their logs, and then are well.
    pub fn forget_announcements(&self) {
        for mut guard in self.all() {
            let state = &mut *guard;
            let stale =
                state.rooms.iter_mut().filter_map(|(channel, room)| room.forget_announcements().then_some(channel));
            let stale: Vec<Channel> = stale.cloned().collect();
            if !stale.is_empty() {
                state.behind.extend(stale);
                self.fell_behind.notify_one();
            }
        }
    }

    /// What came on a channel could not be read: the log is, in its place.
    pub fn lost(&self, channel: &str) {
        let mut guard = self.shard(channel).lock();
        let state = &mut *guard;
        let Some(room) = state.rooms.get_mut(channel) else { return };
        let is_behind = room.fall_behind();
        if room.stage != Stage::Live {
            return;
        }
        if is_behind && let Some((channel, _)) = state.rooms.get_key_value(channel) {
            state.behind.push(channel.clone());
            self.fell_behind.notify_one();
        } else if let Some(room) = state.rooms.get_mut(channel).filter(|room| !room.is_behind()) {
            // Without a log there is nothing to wait for.
            room.recover();
        }
    }

    /// Waits until [`Hub::take_interest`] may have something.
    pub async fn interest_changed(&self) {
        self.interest_changed.notified().await;
    }

    /// The next changes of what is to be subscribed; at most `limit` each way.
    pub fn take_interest(&self, limit: usize) -> Interest {
        self.take_interest_in(limit, |_| true)
    }

    /// The next changes among channels that `is_mine`. Whoever has taken some takes no more before they are confirmed.
    pub fn take_interest_in(&self, limit: usize, is_mine: impl Fn(&Channel) -> bool) -> Interest {
        let mut interest = Interest::default();
        for mut shard in self.all() {
            if !(shard.idle.is_empty() && shard.wanted.is_empty()) {
                shard.take_interest(&mut interest, limit, &is_mine);
            }
        }
        if interest.subscribe.len().max(interest.unsubscribe.len()) >= limit {
            self.interest_changed.notify_one();
        }
        interest
    }

    /// Whether a channel's subscription is confirmed.
    #[must_use]
    pub fn is_live(&self, channel: &Channel) -> bool {
        let shard = self.shard(channel.as_str()).lock();
        shard.rooms.get(channel).is_some_and(|room| room.stage == Stage::Live)
    }

    /// Redis has confirmed that these channels are subscribed.
    pub fn subscribed(&self, channels: &[Channel]) {
        for channel in channels {
            let mut guard = self.shard(channel.as_str()).lock();
            let state = &mut *guard;
            let Some(room) = state.rooms.get_mut(channel) else { continue };
            room.stage = Stage::Live;
            for waiting in room.waiting.drain(..) {
                // Who gave up waiting is not there to hear it.
                let _gone = waiting.send(Epoch(state.epoch));
            }
            if room.is_behind() {
                state.behind.push(channel.clone());
                self.fell_behind.notify_one();
            } else {
                room.recover();
            }
        }
    }

    /// Where each live room stands, for comparison with the logs.
    #[must_use]
    pub fn positions(&self) -> Vec<(Channel, Cursor)> {
        let mut positions = Vec::new();
        for shard in self.all() {
            let live = shard.rooms.iter().filter(|(_, room)| room.stage == Stage::Live && !room.is_behind());
            positions.extend(live.filter_map(|(channel, room)| Some((channel.clone(), room.position?))));
        }
        positions
    }

    /// Has a room subscribed anew, and then its log read, when it still stands at `position`: the subscription itself may
    /// be what was lost. Returns whether it does.
    pub fn suspect(&self, channel: &Channel, position: Cursor) -> bool {
        let mut guard = self.shard(channel.as_str()).lock();
        let state = &mut *guard;
        let Some(room) = state.rooms.get_mut(channel) else { return false };
        let behind = room.stage == Stage::Live && room.position == Some(position) && room.fall_behind();
        if behind {
            room.stage = Stage::Wanted;
            state.wanted.push(channel.clone());
            self.interest_changed.notify_one();
        }
        behind
    }

    /// Waits until [`Hub::take_behind`] may have something.
    pub async fn fell_behind(&self) {
        self.fell_behind.notified().await;
    }

    /// Rooms whose log is to be read now, and from which event on; at most `limit`.
    /// Each must come back through [`Hub::backfilled`] or [`Hub::not_backfilled`].
    pub fn take_behind(&self, limit: usize) -> Vec<(Channel, Cursor)> {
        let mut taken = Vec::new();
        for mut shard in self.all() {
            while taken.len() < limit
                && let Some(channel) = shard.behind.pop()
            {
                if let Some(position) = shard.rooms.get_mut(&channel).and_then(Room::begin_reading) {
                    taken.push((channel, position));
                }
            }
        }
        taken
    }

    /// What the log has shown. The sockets get it before anything that came meanwhile.
    pub fn backfilled(&self, channel: &Channel, backfill: Backfill) {
        let mut guard = self.shard(channel.as_str()).lock();
        let state = &mut *guard;
        let Some(room) = state.rooms.get_mut(channel) else { return };
        let caught_up = room.finish_reading(backfill);
        if !caught_up && room.stage == Stage::Live {
            state.behind.push(channel.clone());
            self.fell_behind.notify_one();
        }
    }

    /// The log could not be read: it must be tried again.
    pub fn not_backfilled(&self, channel: &Channel) {
        let mut guard = self.shard(channel.as_str()).lock();
        let state = &mut *guard;
        let Some(room) = state.rooms.get_mut(channel) else { return };
        room.give_up_reading();
        if room.is_behind() && room.stage == Stage::Live {
            state.behind.push(channel.clone());
            self.fell_behind.notify_one();
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
    pub fn close_sockets_where(&self, is_over: impl Fn(&Principal) -> bool) -> usize {
        // Looked up without the lock: that takes long enough for events to notice.
        let mut sockets = Vec::new();
        let mut closed = 0;
        for shard in &self.shards {
            sockets.extend(shard.lock().rooms.values().flat_map(|room| room.sockets.iter().cloned()));
            let revoked = sockets.drain(..).filter(|socket| is_over(&socket.principal()));
            closed += revoked.inspect(|socket| socket.close(CloseReason::TokenInvalid)).count();
        }
        closed
    }

    /// Lets nobody in any more and tells every socket that this gateway shuts down.
    pub fn go_away(&self) {
        for mut shard in self.all() {
            shard.going_away = true;
            for socket in shard.rooms.values().flat_map(|room| &room.sockets) {
                socket.push(QueueItem::GoingAway);
            }
        }
    }
}

/// Where a channel's room is. The last digits of a conversation's name are those of a UUIDv5, which are as good as any hash.
/// Other names end with the EHR's, which may be all alike (FNV-1a).
fn place(channel: &str) -> usize {
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
pub struct Attendance {
    hub: Arc<Hub>,
    channel: Channel,
}

impl Drop for Attendance {
    fn drop(&mut self) {
        self.hub.stop_attending(&self.channel);
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
    early: bool,
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
    /// [`Refused::Cut`] when the connection is lost before.
    pub async fn subscribed(&mut self) -> Result<Epoch, Refused> {
        match self.subscribed.take() {
            Some(heard) => heard.await.map_err(|_| Refused::Cut),
            None => Err(Refused::Cut),
        }
    }

    /// Tells the hub up to where this socket has read the log itself. `false` when events may have been lost since
    /// `epoch`, or passed by between what was read and what is heard: then the socket must join anew.
    #[must_use]
    pub fn settle(&self, epoch: Epoch, position: Cursor) -> bool {
        let mut state = self.hub.shard(self.channel.as_str()).lock();
        if state.epoch != epoch.0 {
            return false;
        }
        let Some(room) = state.rooms.get_mut(&self.channel) else { return false };
        let is_settled = room.settle(position, self.early);
        if is_settled && room.is_degraded() {
            // The others have heard it before this one came.
            self.outbound.push(QueueItem::Degraded);
        }
        is_settled
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.hub.leave(&self.channel, &self.outbound);
    }
}

#[cfg(test)]
pub(crate) mod tests;
