//! Guards that keep a room alive: a socket's membership, and a channel held without a socket.

use std::sync::Arc;

use shared::contract::event::Cursor;
use shared::contract::redis::keys::Channel;
use tokio::sync::oneshot;

use super::outbound_queue::{OutboundQueue, QueueItem};
use super::{Epoch, Hub, JoinError};

/// Keeps a channel subscribed until it is dropped.
#[derive(Debug)]
pub struct ChannelGuard {
    pub(super) hub: Arc<Hub>,
    pub(super) channel: Channel,
}

impl Drop for ChannelGuard {
    fn drop(&mut self) {
        self.hub.release_channel(&self.channel);
    }
}

/// A socket's membership in a room. The socket leaves when this is dropped.
#[derive(Debug)]
pub struct Membership {
    pub(super) hub: Arc<Hub>,
    pub(super) channel: Channel,
    pub(super) outbound: Arc<OutboundQueue>,
    pub(super) subscribed: Option<oneshot::Receiver<Epoch>>,
    /// The socket joined before the room had a position.
    pub(super) joined_early: bool,
}

impl Membership {
    /// The channel of the room.
    #[must_use]
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// The socket's queue.
    #[must_use]
    pub fn outbound(&self) -> &Arc<OutboundQueue> {
        &self.outbound
    }

    /// Waits until Redis has confirmed the subscription. Call it once.
    ///
    /// # Errors
    /// [`JoinError::Disconnected`] if the connection is lost first.
    pub async fn wait_until_subscribed(&mut self) -> Result<Epoch, JoinError> {
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
    pub fn confirm_position(&self, epoch: Epoch, position: Cursor) -> bool {
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
