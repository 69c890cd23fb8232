//! The Redis client of both services. A cluster gets one connection per master, so that a dead or frozen node affects only the
//! keys of its slots. No call blocks without a timeout.
//!
//! | module | owns |
//! | --- | --- |
//! | `link` | [`RedisLink`]: the settings that both services read |
//! | `url` | [`RedisUrl`]: which servers, whether encrypted |
//! | `connection` | [`ClientOptions`]: how long connections wait and what they refuse to repeat |
//! | `slot_map` | [`SlotMap`]: which master of a cluster serves which key |
//! | `node` | one server: whether it answers, and its replacement of connections that were cut without a word; [`MasterWatch`] |
//! | `health` | [`ConnectionHealth`]: whether Redis may have lost writes |
//! | `nodes` | [`RedisNodes`]: all of them; sends each command to the node of its key |
//! | `slot_map_reader` | [`SlotMapReader`]: reads the map of the cluster |
//! | `slot_map_refresh` | keeps the map up to date, and a connection to each master |
//! | `sentinel` | follows the master that Redis Sentinels name |
//! | `dedicated` | [`DedicatedConnection`]: a connection of its own for one key, whose reads may block |
//!
//! The client library's own cluster client is not used: it reconnects as a whole, so one dead master stops all commands. Its
//! redirections are not used either. When it follows `ASK`, it takes the next reply on that connection for its own,
//! whichever command caused it: one conversation's log could reach another.

mod connection;
mod dedicated;
mod health;
mod link;
mod node;
mod nodes;
mod sentinel;
mod slot_map;
mod slot_map_reader;
mod slot_map_refresh;
mod topology;
mod url;

pub use connection::{COMMAND_QUEUE_CAPACITY, ClientOptions};
pub use dedicated::DedicatedConnection;
pub use health::{ConnectionHealth, is_redis_reply, redact_error};
pub use link::RedisLink;
pub use node::MasterWatch;
pub use nodes::{RedisNodes, RoutingError};
pub use slot_map::{SLOT_COUNT, SlotMap, slot_of};
pub use slot_map_reader::SlotMapReader;
pub use topology::Topology;
pub use url::RedisUrl;

#[cfg(test)]
mod tests;
