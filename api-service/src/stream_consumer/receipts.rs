//! Applies the gateways' receipts: proven deliveries and reads. Marks are idempotent, so a receipt may repeat.

use std::collections::HashSet;

use shared::contract::ids::MessageId;
use shared::contract::receipt::Receipt;
use shared::contract::redis::keys::RECEIPT_STREAM;

use crate::domain::mark;
use crate::model::mark::Mark;
use crate::outbox::event_queue::EventSender;
use crate::store::{Store, StoreError};
use crate::stream_consumer::handler::StreamHandler;

/// Handles receipts.
pub struct ReceiptHandler {
    /// Marks the messages.
    pub store: Store,
    /// Publishes to the senders.
    pub events: EventSender,
}

/// Messages per transaction. It must end within the statement timeout, even with a cold cache.
const MAX_BATCH_MESSAGES: usize = 5_000;

/// The number of marks that fit one batch: at least one.
fn batch_len(marks: &[Mark]) -> usize {
    let mut messages = 0;
    let fitting = marks.iter().take_while(|mark| {
        messages += mark.message_ids.len();
        messages <= MAX_BATCH_MESSAGES
    });
    fitting.count().max(1)
}

impl StreamHandler for ReceiptHandler {
    const STREAM: &'static str = RECEIPT_STREAM;
    const HANDLED_METRIC: &'static str = "ehr_chat_receipts_applied_total";
    /// A dropped receipt leaves messages undelivered until they are read.
    const DROPPED_METRIC: &'static str = "ehr_chat_receipts_dropped_total";
    const MAX_ATTEMPTS: Option<usize> = Some(4);
    type Entry = Mark;

    fn decode(text: &str) -> Option<Mark> {
        Receipt::decode(text).ok().map(Mark::from)
    }

    async fn handle(&self, marks: &[Mark]) -> Result<(), StoreError> {
        let mut rest = marks;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(batch_len(rest));
            mark::apply(&self.store, &self.events, now).await?;
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
