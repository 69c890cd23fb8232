//! Redis, as both services use it: connections that never hang, and of a cluster one connection a master, so that a node that is
//! dead, frozen or out of reach harms only the keys whose slots it holds.
//!
//! | module | owns |
//! | --- | --- |
//! | `url` | [`RedisUrl`]: which servers, whether encrypted |
//! | `generation` | [`Settings`]: how long connections wait and what they refuse to repeat |
//! | `slots` | [`Slots`]: which master of a cluster serves which key |
//! | `node` | one server: whether it answers, and its replacement of connections that were cut without a word |
//! | `health` | [`Health`]: what Redis may have lost |
//! | `nodes` | [`Nodes`]: all of them; sends each command to the node of its key |
//! | `map` | reads the map of the cluster, and connects to its masters |
//! | `dedicated` | [`DedicatedConnection`]: a connection of its own for one key, whose reads may block |
//!
//! The client library's own cluster client is not used: it reconnects as a whole, so one dead master stops commands to all.
//! Nor are its redirections. To follow `ASK` it takes the next answer on a connection for its own, whosever it is: one
//! conversation's log could reach another.

mod connection;
mod dedicated;
mod health;
mod map;
mod node;
mod nodes;
mod slots;
mod topology;
mod url;

pub use connection::{COMMAND_QUEUE_CAPACITY, ClientOptions};
pub use dedicated::DedicatedConnection;
pub use health::{ConnectionHealth, is_redis_reply};
pub use nodes::{RedisNodes, RoutingError};
pub use slots::{SLOT_COUNT, SlotMap, slot_of};
pub use topology::Topology;
pub use url::RedisUrl;

#[cfg(test)]
mod tests;
