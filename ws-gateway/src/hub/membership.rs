//! Guards that keep a room alive: a socket's membership, and a channel held without a socket.

use std::sync::Arc;

use shared::channel::Channel;
use shared::event::Cursor;
use tokio::sync::oneshot;

use super::outbound_queue::{OutboundQueue, QueueItem};
use super::{Epoch, Hub, JoinError};

/// Has a channel heard until this is dropped.
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

/// A socket's place in a room; it leaves when this is dropped.
#[derive(Debug)]
pub struct Membership {
    pub(super) hub: Arc<Hub>,
    pub(super) channel: Channel,
    pub(super) outbound: Arc<OutboundQueue>,
    pub(super) subscribed: Option<oneshot::Receiver<Epoch>>,
    /// It joined before the room had a position.
    pub(super) joined_early: bool,
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
        let mut shard = self.hub.shard(self.channel.as_str()).lock();
        if shard.epoch != epoch.0 {
            return false;
        }
        let Some(room) = shard.rooms.get_mut(&self.channel) else { return false };
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
