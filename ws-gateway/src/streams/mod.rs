//! What the gateway sends to the API service, through streams of Redis.
//!
//! - `producer`: batches entries into a stream; `fair_share` and `unconfirmed` belong to it
//! - [`receipts`]: delivered and read messages
//! - [`audit`]: what happens to sockets

pub mod audit;
mod fair_share;
mod producer;
pub mod receipts;
mod unconfirmed;

pub use producer::{StreamEntry, StreamProducer};
