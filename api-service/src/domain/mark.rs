//! Marks messages as delivered or read. Only the receiver may mark. The first time is kept. Read implies delivered.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;
use shared::contract::ids::MessageId;
use shared::contract::receipt::ReceiptKind;
use shared::contract::token::AuthorizationError;
use tokio::time::Instant;

use super::error::DomainError;
use crate::model::mark::{Mark, Marked};
use crate::model::message::now;
use crate::model::request_origin::RequestOrigin;
use crate::outbox::event_queue::EventSender;
use crate::store::{Class, Store, StoreError};

/// Attempts and time limit when other transactions interfere. The response must precede the load balancer's timeout, which would
/// leave the outcome unknown. PostgreSQL needs one second to detect a deadlock.
const MAX_ATTEMPTS: usize = 3;
const RETRY_TIMEOUT: Duration = Duration::from_millis(2_200);

/// The result per message id, in the order of the request.
#[derive(Debug, Serialize)]
pub struct Marks {
    /// The caller's messages.
    pub marked: Vec<Marked>,
    /// Unknown ids, and ids of other participants' messages. The response does not distinguish them.
    pub not_found: Vec<MessageId>,
}

/// Marks messages for the caller, who must be their receiver.
///
/// # Errors
/// [`DomainError`]; nothing was marked then.
pub async fn mark(
    origin: &RequestOrigin,
    store: &Store,
    events: &EventSender,
    kind: ReceiptKind,
    message_ids: Vec<MessageId>,
) -> Result<Marks, DomainError> {
    let receiver = origin.principal.participant().ok_or(AuthorizationError::ParticipantRequired)?.clone();
    let locations = origin.principal.locations.clone();
    let request = Some(origin.request.clone());
    let mark = Mark { kind, locations, receiver, message_ids: message_ids.clone(), at: now(), request };
    let marked = apply(&store.for_class(Class::Write), events, &[mark]).await?;
    let mut found: HashMap<MessageId, Marked> = marked.into_iter().map(|marked| (marked.id, marked)).collect();
    let mut marks = Marks { marked: Vec::new(), not_found: Vec::new() };
    let mut seen = std::collections::HashSet::new();
    for id in message_ids.into_iter().filter(|id| seen.insert(*id)) {
        match found.remove(&id) {
            Some(marked) => marks.marked.push(marked),
            None => marks.not_found.push(id),
        }
    }
    Ok(marks)
}

/// Applies marks of many receivers in one transaction, and publishes the receipts to the senders.
///
/// # Errors
/// [`StoreError`]; nothing was marked then.
pub async fn apply(store: &Store, events: &EventSender, marks: &[Mark]) -> Result<Vec<Marked>, StoreError> {
    let (mut attempts, started) = (1, Instant::now());
    let (marked, entries) = loop {
        match store.mark(marks).await {
            // Two participants that mark in each other's conversations may deadlock; PostgreSQL lets one of them proceed.
            Err(StoreError::Contended(_)) if attempts < MAX_ATTEMPTS && started.elapsed() < RETRY_TIMEOUT => {
                attempts += 1;
            }
            done => break done?,
        }
    };
    events.publish(entries);
    Ok(marked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::WAIT_TIMEOUT;

    #[test]
    fn mark_responds_before_balancer_timeout() {
        // The worst case: the last attempt starts at the limit, waits for a permit and takes as long as a transaction may.
        let longest = RETRY_TIMEOUT + WAIT_TIMEOUT + Class::Write.max_duration();
        assert!(longest <= Duration::from_millis(9_500), "{longest:?}");
    }
}
