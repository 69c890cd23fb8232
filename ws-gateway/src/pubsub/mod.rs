//! Redis publish/subscribe and the event logs behind it.
//!
//! - `subscriber`: starts everything; `single` and `cluster` keep the connections, `routes` maps slots to them
//! - `receiver`: what a connection receives; `subscriptions`: what is sent on it
//! - `backfill`: reads logs for rooms with a gap
//! - `event_log`: reads event logs; `replay_budget` bounds replays in memory
//! - [`event_decoder`]: decodes and decrypts events
//! - `typing`: publishes typing notices

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

pub(crate) use backfill::BACKFILL_CONCURRENCY;
pub use event_log::{EventLog, EventLogError, LogTtl, Replay};
pub(crate) use replay_budget::{ReplayBudget, ReplayReservation};
pub(crate) use subscriber::start;
pub(crate) use typing::TYPING_QUEUE_CAPACITY;
pub use typing::TypingPublisher;
