//! Reading a conversation, page by page.

use futures_util::future::join;
use serde::Serialize;
use shared::audit::Action;
use shared::ids::ConversationId;
use shared::participant::Conversation;

use super::error::DomainError;
use crate::audit::writer::AuditWriter;
use crate::model::message::Message;
use crate::model::origin::Origin;
use crate::model::page::{self, PagePosition};
use crate::store::Store;

/// Messages of a page when the caller does not say.
pub const DEFAULT_LIMIT: u16 = 50;

/// Ascending by `seq`.
#[derive(Debug, Serialize)]
pub struct Page {
    /// Which conversation; known even when nobody has written in it.
    pub conversation_id: ConversationId,
    /// The messages.
    pub messages: Vec<Message>,
    /// Whether there are more in the direction of the request: older ones, or, with `after`, newer ones.
    pub has_more: bool,
}

/// A page of at most `limit` messages, and of no more content than a page may have. That somebody looked is on disk before anybody sees it.
///
/// # Errors
/// [`DomainError`]
pub async fn history(
    origin: &Origin,
    (store, audit_writer): (&Store, &AuditWriter),
    conversation: &Conversation,
    position: PagePosition,
    limit: u16,
) -> Result<Page, DomainError> {
    origin.principal.check_can_view(conversation)?;
    let limit = usize::from(limit);
    // One more than asked tells whether there is more.
    let read = store.history(conversation, position, limit + 1);
    let entry = origin.entry(Action::HistoryRead, 200).in_conversation(conversation, None);
    // Neither is dropped when the other fails: that would cost the connection.
    let (read, recorded) = join(origin.deadline.limit(read), audit_writer.record(entry, origin.deadline)).await;
    recorded?;
    let mut messages = read?;
    let fitting = page::fitting(messages.iter().map(|message| &message.new.content), limit);
    let has_more = messages.len() > fitting;
    messages.truncate(fitting);
    if !matches!(position, PagePosition::After(_)) {
        messages.reverse();
    }
    Ok(Page { conversation_id: conversation.id(), messages, has_more })
}
