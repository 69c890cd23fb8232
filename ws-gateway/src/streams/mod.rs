//! Redis streams from the gateway to the API service.
//!
//! - `producer`: a bounded queue that writes batches into a stream; `entry`: what a stream defines for it
//! - `fair_share`: keeps one client from filling the queue
//! - `unconfirmed`: repeats what a Redis failover may have lost
//! - [`receipts`], [`audit`]: the entries

pub(crate) mod audit;
mod entry;
mod fair_share;
mod producer;
pub(crate) mod receipts;
mod unconfirmed;

pub(crate) use entry::StreamEntry;
pub(crate) use producer::StreamProducer;
