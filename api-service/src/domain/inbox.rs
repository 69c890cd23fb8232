//! Reads the inbox of one participant, newest activity first.

use serde::{Serialize, Serializer};
use shared::contract::audit::Action;
use shared::contract::error_code::ProblemCode;
use shared::contract::ids::LocationId;
use shared::contract::participant::Participant;

use super::audited_read::audited_read;
use super::error::DomainError;
use crate::audit_writer::AuditWriter;
use crate::model::inbox::{InboxCursor, InboxRow};
use crate::model::page;
use crate::model::request_origin::RequestOrigin;
use crate::store::Store;

/// A page of the inbox.
#[derive(Debug, Serialize)]
pub struct Inbox {
    /// Newest activity first.
    pub conversations: Vec<InboxRow>,
    /// The cursor of the next page; `null` on the last.
    #[serde(serialize_with = "optional_display")]
    pub next_cursor: Option<InboxCursor>,
}

fn optional_display<S: Serializer>(cursor: &Option<InboxCursor>, serializer: S) -> Result<S::Ok, S::Error> {
    cursor.map(|cursor| cursor.to_string()).serialize(serializer)
}

/// Reads a page of at most `limit` conversations and about [`page::MAX_PAGE_BYTES`] of content. The audit entry is on disk before
/// the page is returned. `whose` names the participant: required for a service, optional for a user or contact.
///
/// # Errors
/// [`DomainError`]
pub async fn inbox(
    origin: &RequestOrigin,
    services: (&Store, &AuditWriter),
    location: &LocationId,
    whose: Option<Participant>,
    cursor: Option<InboxCursor>,
    limit: u16,
) -> Result<Inbox, DomainError> {
    let principal = &origin.principal;
    principal.check_location(location)?;
    let viewer = match (whose, principal.participant()) {
        (Some(whose), _) => whose,
        (None, Some(person)) => person.clone(),
        (None, None) => {
            let detail = "A `service` token says with `user_id` or `contact_id` whose inbox it wants.";
            return Err(DomainError::Input(ProblemCode::MissingParameter, "?user_id", detail));
        }
    };
    principal.check_acts_as(location, &viewer)?;
    let limit = usize::from(limit);
    let viewer = &viewer;
    let entry = origin.entry(Action::InboxRead, 200).about_participant(location, viewer);
    let read = |store: Store| async move { store.inbox(location, viewer, cursor, limit + 1).await };
    let mut conversations = audited_read(origin, services, entry, read).await?;
    let fitting = page::fitting(conversations.iter().map(|row| &row.last_message.new.content), limit);
    let more = conversations.len() > fitting;
    conversations.truncate(fitting);
    let next_cursor = conversations
        .last()
        .filter(|_| more)
        .map(|row| InboxCursor { last_activity_at: row.last_activity_at, conversation_id: row.conversation.id() });
    Ok(Inbox { conversations, next_cursor })
}

/// The one participant that two query parameters name.
///
/// # Errors
/// When both are given.
pub fn at_most_one(
    user: Option<Participant>,
    contact: Option<Participant>,
) -> Result<Option<Participant>, DomainError> {
    match (user, contact) {
        (Some(_), Some(_)) => {
            let detail = "The parameters `user_id` and `contact_id` exclude each other. Give one of them.";
            Err(DomainError::Input(ProblemCode::ConflictingParameters, "?contact_id", detail))
        }
        (user, contact) => Ok(user.or(contact)),
    }
}
