//! Redis publish/subscribe and the event logs behind it.

mod backfill;
mod cluster;
pub mod event_decoder;
mod event_log;
mod receiver;
mod replay_budget;
mod routes;
mod single;
mod subscriber;
mod subscriptions;
mod typing;

pub(crate) use backfill::LOGS;
pub use event_log::{Lives, Logs, ReplayError, Resumed};
pub(crate) use replay_budget::{Held, ReplayBudget};
pub(crate) use subscriber::start;
pub(crate) use typing::QUEUE;
pub use typing::Typing;
