//! A Redis Cluster as an operator sees it.
//!
//! | module | owns |
//! | --- | --- |
//! | `nodes` | [`Nodes`], [`Node`]: who is master, what a node answers; by `redis-cli` |
//! | `migration` | [`SlotMigration`]: a slot on its way from one master to another, step by step |
//! | `restarts_paused` | [`RestartsPaused`]: what dies is not restarted |

mod nodes;
mod restarts_paused;
mod slot_migration;

pub use nodes::{Node, Nodes};
pub use restarts_paused::RestartsPaused;
pub use slot_migration::SlotMigration;
