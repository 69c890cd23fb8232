//! The gateways' receipts: proven deliveries and reads. Marking is idempotent, so that a receipt may come twice.

use shared::channel::ACKS;
use shared::receipt::Receipt;

use crate::domain::mark::{self, Mark};
use crate::publisher::Publisher;
use crate::store::{Store, StoreError};
use crate::stream::Taker;

/// Applies receipts.
pub struct Receipts {
    /// Where messages are marked.
    pub store: Store,
    /// Tells their senders.
    pub publisher: Publisher,
}

impl Taker for Receipts {
    const STREAM: &'static str = ACKS;
    const TAKEN: &'static str = "receipts_applied_total";
    /// The messages show as undelivered until they are read.
    const DROPPED: &'static str = "receipts_dropped_total";
    const ATTEMPTS: usize = 4;
    type Entry = Mark;

    fn decode(text: &str) -> Option<Mark> {
        Receipt::decode(text).ok().map(Mark::from)
    }

    async fn take(&self, marks: &[Mark]) -> Result<(), StoreError> {
        mark::apply(&self.store, &self.publisher, marks).await.map(drop)
    }
}
