//! Redis streams from the gateway to the API service.
//!
//! - `producer`: a bounded queue that writes batches into a stream
//! - `fair_share`: keeps one client from filling the queue
//! - `unconfirmed`: repeats what a Redis failover may have lost
//! - [`receipts`], [`audit`]: the entries

pub mod audit;
mod fair_share;
mod producer;
pub mod receipts;
mod unconfirmed;

pub use producer::{StreamEntry, StreamProducer};
