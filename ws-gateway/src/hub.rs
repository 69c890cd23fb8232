//! Which sockets hear which conversation, and up to which event they have.
//!
//! It knows neither Redis nor TCP: the relay tells it what came and what was lost, it says which channels
//! are worth hearing and which logs must be read again. It never lets a socket see events out of order.

mod room;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;
use shared::channel::Channel;
use shared::event::{Cursor, Event};
use shared::revocation::Revocations;
use tokio::sync::{Notify, oneshot};

use crate::close::Close;
use crate::outbound::{Delivery, Item, Outbound};
use room::{Room, Stage};

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
    Missed(Vec<Arc<Delivery>>),
    /// It does not: what was missed cannot be known. The log's newest entry is this.
    Lost(Cursor),
}

/// The rooms of all conversations that somebody on this gateway listens to.
#[derive(Debug, Default)]
pub struct Hub {
    state: Mutex<State>,
    interest_changed: Notify,
    fell_behind: Notify,
}

#[derive(Debug, Default)]
struct State {
    rooms: HashMap<Channel, Room>,
    wanted: Vec<Channel>,
    idle: Vec<Channel>,
    /// Rooms whose log is to be read, each once.
    behind: Vec<Channel>,
    connected: bool,
    /// Whether it ever was.
    reached: bool,
    going_away: bool,
    epoch: u64,
}

impl Hub {
    /// Nobody listens, and Redis is not reached yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Puts a socket into a room: from now on its queue gets what is dispatched there.
    ///
    /// # Errors
    /// [`Refused`]
    pub fn join(self: &Arc<Self>, channel: Channel, outbound: Arc<Outbound>) -> Result<Membership, Refused> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.going_away {
            return Err(Refused::GoingAway);
        }
        if !state.connected {
            return Err(Refused::Cut);
        }
        let room = match state.rooms.entry(channel.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                state.wanted.push(channel.clone());
                self.interest_changed.notify_one();
                entry.insert(Room::default())
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

    fn leave(&self, channel: &Channel, outbound: &Arc<Outbound>) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let Some(room) = state.rooms.get_mut(channel) else { return };
        room.sockets.retain(|socket| !Arc::ptr_eq(socket, outbound));
        if room.sockets.is_empty() {
            // The room stays until the relay asks: who comes back before that finds it as it was.
            state.idle.push(channel.clone());
            self.interest_changed.notify_one();
        }
    }

    /// Passes on what came on a channel.
    pub fn dispatch(&self, channel: &str, event: Event) {
        let Some(delivery) = Delivery::new(event) else { return };
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let Some(room) = state.rooms.get_mut(channel) else { return };
        // A room whose subscription is not confirmed is looked at when it is.
        if room.receive(delivery)
            && room.stage == Stage::Live
            && let Some((channel, _)) = state.rooms.get_key_value(channel)
        {
            state.behind.push(channel.clone());
            self.fell_behind.notify_one();
        }
    }

    /// Waits until [`Hub::take_interest`] may have something.
    pub async fn interest_changed(&self) {
        self.interest_changed.notified().await;
    }

    /// The next changes of what is to be subscribed; at most `limit` each way.
    pub fn take_interest(&self, limit: usize) -> Interest {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let mut interest = Interest::default();
        let idle = state.idle.len().min(limit);
        for channel in state.idle.drain(..idle) {
            if let Some(room) = state.rooms.get(&channel)
                && room.sockets.is_empty()
            {
                // One that is behind may be about to be subscribed anew.
                if room.stage == Stage::Live || room.is_behind() {
                    interest.unsubscribe.push(channel.clone());
                }
                state.rooms.remove(&channel);
            }
        }
        while interest.subscribe.len() < limit
            && let Some(channel) = state.wanted.pop()
        {
            if let Some(room) = state.rooms.get_mut(&channel)
                && room.stage == Stage::Wanted
            {
                room.stage = Stage::Subscribing;
                interest.subscribe.push(channel);
            }
        }
        if !(state.idle.is_empty() && state.wanted.is_empty()) {
            self.interest_changed.notify_one();
        }
        interest
    }

    /// Redis has confirmed that these channels are subscribed.
    pub fn subscribed(&self, channels: &[Channel]) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        for channel in channels {
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

    /// A new connection to Redis is there, with nothing subscribed.
    pub fn connected(&self) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.connected = true;
        state.reached = true;
        state.wanted = state.rooms.keys().cloned().collect();
        self.interest_changed.notify_one();
    }

    /// The connection is gone, and with it every subscription.
    pub fn disconnected(&self) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.connected = false;
        state.epoch += 1;
        state.behind.clear();
        for room in state.rooms.values_mut() {
            room.cut();
        }
    }

    /// The connection stands, yet any event may have been lost.
    pub fn lagged(&self) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.epoch += 1;
        for (channel, room) in &mut state.rooms {
            if room.fall_behind() && room.stage == Stage::Live {
                state.behind.push(channel.clone());
            }
        }
        self.fell_behind.notify_one();
    }

    /// Where each live room stands, for comparison with the logs.
    #[must_use]
    pub fn positions(&self) -> Vec<(Channel, Cursor)> {
        let state = self.state.lock();
        let live = state.rooms.iter().filter(|(_, room)| room.stage == Stage::Live && !room.is_behind());
        live.filter_map(|(channel, room)| Some((channel.clone(), room.position?))).collect()
    }

    /// Has a room subscribed anew, and then its log read, when it still stands at `position`: the subscription itself may
    /// be what was lost. Returns whether it does.
    pub fn suspect(&self, channel: &Channel, position: Cursor) -> bool {
        let mut guard = self.state.lock();
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
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some(channel) = state.behind.pop()
        {
            if let Some(position) = state.rooms.get_mut(&channel).and_then(Room::begin_reading) {
                taken.push((channel, position));
            }
        }
        taken
    }

    /// What the log has shown. The sockets get it before anything that came meanwhile.
    pub fn backfilled(&self, channel: &Channel, backfill: Backfill) {
        let mut guard = self.state.lock();
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
        let mut guard = self.state.lock();
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
    pub fn close_revoked(&self, revocations: &Revocations) -> usize {
        // Looked up without the lock: that takes long enough for events to notice.
        let sockets: Vec<_> = self.state.lock().rooms.values().flat_map(|room| room.sockets.iter().cloned()).collect();
        let revoked = sockets.iter().filter(|socket| revocations.covers(&socket.bearer()));
        revoked.inspect(|socket| socket.close(Close::TokenEnded)).count()
    }

    /// Lets nobody in any more and tells every socket that this gateway shuts down.
    pub fn go_away(&self) {
        let mut state = self.state.lock();
        state.going_away = true;
        for socket in state.rooms.values().flat_map(|room| &room.sockets) {
            socket.push(Item::GoingAway);
        }
    }

    /// Whether Redis was ever reached.
    #[must_use]
    pub fn was_reached(&self) -> bool {
        self.state.lock().reached
    }
}

/// A socket's place in a room; it leaves when this is dropped.
#[derive(Debug)]
pub struct Membership {
    hub: Arc<Hub>,
    channel: Channel,
    outbound: Arc<Outbound>,
    subscribed: Option<oneshot::Receiver<Epoch>>,
    /// It joined before the room had a position.
    early: bool,
}

impl Membership {
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
        let mut state = self.hub.state.lock();
        if state.epoch != epoch.0 {
            return false;
        }
        state.rooms.get_mut(&self.channel).is_some_and(|room| room.settle(position, self.early))
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.hub.leave(&self.channel, &self.outbound);
    }
}

#[cfg(test)]
pub(crate) mod tests;
