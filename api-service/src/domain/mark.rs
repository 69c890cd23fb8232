//! Marking messages as delivered or read. Only their receiver marks; the first time stands; read implies delivered.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;
use shared::ids::MessageId;
use shared::receipt::ReceiptKind;
use shared::token::AuthorizationError;
use tokio::time::Instant;

use super::error::DomainError;
use crate::model::mark::{Mark, Marked};
use crate::model::message::now;
use crate::model::origin::Origin;
use crate::publisher::Publisher;
use crate::store::{Class, Store, StoreError};

/// How often marks are tried when another transaction stands in the way, and until when: whoever waits is answered before the
/// balancer gives up, who could say no more than that nobody knows what became of it. The database takes a second to find out who waits
/// for each other.
const ATTEMPTS: usize = 3;
const RETRY_FOR: Duration = Duration::from_millis(2_200);

/// What became of the ids of a request, in its order.
#[derive(Debug, Serialize)]
pub struct Marks {
    /// The caller's.
    pub marked: Vec<Marked>,
    /// Those that do not exist, and those that are not the caller's to mark: the same to the caller.
    pub not_found: Vec<MessageId>,
}

/// Marks messages for their receiver, who asks.
///
/// # Errors
/// [`DomainError`]; nothing was marked then.
pub async fn mark(
    origin: &Origin,
    store: &Store,
    publisher: &Publisher,
    kind: ReceiptKind,
    message_ids: Vec<MessageId>,
) -> Result<Marks, DomainError> {
    let receiver = origin.principal.participant().ok_or(AuthorizationError::ParticipantRequired)?.clone();
    let locations = origin.principal.locations.clone();
    let request = Some(origin.request.clone());
    let mark = Mark { kind, locations, receiver, message_ids: message_ids.clone(), at: now(), request };
    let marked = apply(&store.for_class(Class::Write), publisher, &[mark]).await?;
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

/// Applies marks of many receivers in one transaction, and tells the senders.
///
/// # Errors
/// [`StoreError`]; nothing was marked then.
pub async fn apply(store: &Store, publisher: &Publisher, marks: &[Mark]) -> Result<Vec<Marked>, StoreError> {
    let (mut attempts, begun) = (1, Instant::now());
    let (marked, entries) = loop {
        match store.mark(marks).await {
            // Two that mark in each other's conversations may wait for each other; the database lets one of them go on.
            Err(StoreError::Contended(_)) if attempts < ATTEMPTS && begun.elapsed() < RETRY_FOR => {
                attempts += 1;
            }
            done => break done?,
        }
    };
    publisher.publish(entries);
    Ok(marked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::WAIT_TIMEOUT;

    #[test]
    fn a_mark_is_answered_before_the_balancer_gives_up() {
        // The last attempt begins in the last moment, waits for others that mark, and takes as long as it may.
        let longest = RETRY_FOR + WAIT_TIMEOUT + Class::Write.max_duration();
        assert!(longest <= Duration::from_millis(9_500), "{longest:?}");
    }
}
