//! Consumes the Redis streams that gateways write, as one consumer group of all instances. Delivery is at least once, so handlers
//! must be idempotent. Entries of a dead instance are claimed by another one. Entries that fail delay no others ([`bisection`]).
//!
//! Anyone who can write to Redis can add entries. Entries that do not parse are counted and removed.

mod bisection;
pub mod conversation_checks;
mod entries;
mod group_reader;
mod handler;
pub mod receipts;
pub mod socket_audit;

pub use group_reader::COMMAND_TIMEOUT;
pub(crate) use group_reader::run;
