//! The gateways' receipts: proven deliveries and reads. Marking is idempotent, so that a receipt may come twice.

use std::collections::HashSet;

use shared::channel::ACKS;
use shared::ids::MessageId;
use shared::receipt::Receipt;

use crate::domain::mark;
use crate::model::mark::Mark;
use crate::publisher::Publisher;
use crate::store::{Store, StoreError};
use crate::stream_consumer::StreamHandler;

/// Applies receipts.
pub struct ReceiptHandler {
    /// Where messages are marked.
    pub store: Store,
    /// Tells their senders.
    pub publisher: Publisher,
}

/// Messages in one transaction, which must end within a statement's time however cold the pages are.
const MAX_BATCH_MESSAGES: usize = 5_000;

/// How many of these marks go together: one at least, and no more messages than [`MAX_BATCH_MESSAGES`] if there are several.
fn batch_len(marks: &[Mark]) -> usize {
    let mut messages = 0;
    let fitting = marks.iter().take_while(|mark| {
        messages += mark.message_ids.len();
        messages <= MAX_BATCH_MESSAGES
    });
    fitting.count().max(1)
}

impl StreamHandler for ReceiptHandler {
    const STREAM: &'static str = ACKS;
    const HANDLED_METRIC: &'static str = "receipts_applied_total";
    /// The messages show as undelivered until they are read.
    const DROPPED_METRIC: &'static str = "receipts_dropped_total";
    const MAX_ATTEMPTS: Option<usize> = Some(4);
    type Entry = Mark;

    fn decode(text: &str) -> Option<Mark> {
        Receipt::decode(text).ok().map(Mark::from)
    }

    async fn handle(&self, marks: &[Mark]) -> Result<(), StoreError> {
        let mut rest = marks;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(batch_len(rest));
            mark::apply(&self.store, &self.publisher, now).await?;
            rest = later;
        }
        Ok(())
    }

    async fn locked(&self, marks: &[Mark]) -> HashSet<usize> {
        let ids: Vec<MessageId> = marks.iter().flat_map(|mark| mark.message_ids.iter().copied()).collect();
        let locked = self.store.locked_messages(&ids).await.unwrap_or_default();
        let is_locked =
            |(index, mark): (usize, &Mark)| mark.message_ids.iter().any(|id| locked.contains(id)).then_some(index);
        marks.iter().enumerate().filter_map(is_locked).collect()
    }
}
