//! Connections to Redis.

mod connector;
mod resp;
mod slot_set;
mod subscriber_connection;

pub use connector::{Error, Nodes, Redis, RedisUrl};
pub(crate) use connector::{HEARTBEAT, SLOTS, Slots, slot_of};
pub(crate) use slot_set::SlotSet;
pub(crate) use subscriber_connection::{Ear, Heard, Link, LinkError, Outcome, command};
