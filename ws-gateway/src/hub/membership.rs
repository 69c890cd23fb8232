//! How sockets join and leave rooms. Guards keep a room alive: a socket's membership, or a channel held without a
//! socket.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use shared::contract::event::Cursor;
use shared::contract::redis::keys::Channel;
use tokio::sync::oneshot;

use super::Hub;
use super::epoch::Epoch;
use super::room::{Room, SubscriptionState};
use crate::socket::{OutboundQueue, QueueItem};

/// Why a socket cannot join now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JoinError {
    /// Redis does not serve this channel.
    #[error("redis is not connected")]
    Disconnected,
    /// This gateway shuts down.
    #[error("gateway is shutting down")]
    GoingAway,
}

impl Hub {
    /// Adds a socket to a room. From now on its queue receives the room's events.
    ///
    /// # Errors
    /// [`JoinError`]
    pub(crate) fn join(
        self: &Arc<Self>,
        channel: Channel,
        outbound: Arc<OutboundQueue>,
    ) -> Result<Membership, JoinError> {
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
    pub(crate) fn hold_channel(self: &Arc<Self>, channel: Channel) -> ChannelGuard {
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
}

/// Keeps a channel subscribed until it is dropped.
#[derive(Debug)]
pub(crate) struct ChannelGuard {
    hub: Arc<Hub>,
    channel: Channel,
}

impl Drop for ChannelGuard {
    fn drop(&mut self) {
        self.hub.release_channel(&self.channel);
    }
}

/// A socket's membership in a room. The socket leaves when this is dropped.
#[derive(Debug)]
pub(crate) struct Membership {
    hub: Arc<Hub>,
    channel: Channel,
    outbound: Arc<OutboundQueue>,
    subscribed: Option<oneshot::Receiver<Epoch>>,
    /// The socket joined before the room had a position.
    joined_early: bool,
}

impl Membership {
    /// The channel of the room.
    #[must_use]
    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// The socket's queue.
    #[must_use]
    pub(crate) fn outbound(&self) -> &Arc<OutboundQueue> {
        &self.outbound
    }

    /// Waits until Redis has confirmed the subscription. Call it once.
    ///
    /// # Errors
    /// [`JoinError::Disconnected`] if the connection is lost first.
    pub(crate) async fn wait_until_subscribed(&mut self) -> Result<Epoch, JoinError> {
        match self.subscribed.take() {
            Some(confirmed) => confirmed.await.map_err(|_| JoinError::Disconnected),
            None => Err(JoinError::Disconnected),
        }
    }

    /// Confirms that this socket has read the log up to `position`.
    ///
    /// Returns `false` if events may have been lost since `epoch`, or between the log and the first live event. Then
    /// the socket must join again.
    #[must_use]
    pub(crate) fn confirm_position(&self, epoch: Epoch, position: Cursor) -> bool {
        let mut shard = self.hub.shard(self.channel.as_str()).lock();
        if shard.epoch != epoch.0 {
            return false;
        }
        let Some(room) = shard.rooms.get_mut(&self.channel) else { return false };
        let is_confirmed = room.confirm_position(position, self.joined_early);
        if is_confirmed && room.is_degraded() {
            // The other sockets received it before this one joined.
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
