//! A Redis Cluster as an operator sees it.
//!
//! | module | owns |
//! | --- | --- |
//! | `nodes` | [`Nodes`], [`Node`]: who is master, what a node answers; by `redis-cli` |
//! | `migration` | [`Migration`]: a slot on its way from one master to another, step by step |
//! | `unattended` | [`Unattended`]: nobody starts what dies |

mod migration;
mod nodes;
mod unattended;

pub use migration::Migration;
pub use nodes::{Node, Nodes};
pub use unattended::Unattended;
