//! What the hub, presence and the session share about one socket. Nothing here knows a room or a connection.
//!
//! - `topic`: what a socket subscribes to
//! - `encoded_event`: an event as a frame; `outbound_queue`: the frames that a socket must still send
//! - `timer_wheel`: wakes sockets at their deadlines
//! - `close_reason`: why a socket ends; `drain_slot`: when it ends during a drain

mod close_reason;
mod drain_slot;
mod encoded_event;
mod outbound_queue;
mod timer_wheel;
mod topic;

pub(crate) use close_reason::CloseReason;
pub(crate) use drain_slot::drain_slot;
pub(crate) use encoded_event::EncodedEvent;
pub(crate) use outbound_queue::{OutboundQueue, QueueItem, Wakeup};
pub(crate) use timer_wheel::{SocketTimer, TimerWheel};
pub(crate) use topic::Topic;
