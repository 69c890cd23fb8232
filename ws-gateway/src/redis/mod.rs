//! Connections to Redis.
//!
//! - `connector`: addresses, timeouts, slot map, command connections
//! - `subscriber_connection`: a connection for subscriptions, with its RESP3 parser `resp`
//! - `slot_set`: a set of slots

mod connector;
mod resp;
mod slot_set;
mod subscriber_connection;

pub(crate) use connector::{Error, MasterWatch, RedisConnector, RedisNodes};
pub(crate) use connector::{HEARTBEAT_INTERVAL, SLOT_COUNT, SlotMap, slot_of};
pub(crate) use slot_set::SlotSet;
pub(crate) use subscriber_connection::{
    BarrierReply, ConnectionError, Push, SubscriberReader, SubscriberWriter, command,
};
