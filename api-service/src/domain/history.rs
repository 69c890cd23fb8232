//! Reads the history of a conversation, page by page.

use serde::Serialize;
use shared::contract::audit::Action;
use shared::contract::ids::ConversationId;
use shared::contract::participant::Conversation;

use super::audited_read::audited_read;
use super::error::DomainError;
use crate::audit_writer::AuditWriter;
use crate::model::message::Message;
use crate::model::page::{self, PagePosition};
use crate::model::request_origin::RequestOrigin;
use crate::store::Store;

/// Messages per page when the caller names no limit.
pub const DEFAULT_LIMIT: u16 = 50;

/// A page, ascending by `seq`.
#[derive(Debug, Serialize)]
pub struct Page {
    /// The conversation; known even before its first message.
    pub conversation_id: ConversationId,
    /// The messages.
    pub messages: Vec<Message>,
    /// Whether more messages follow in the direction of the request: older ones or, with `after`, newer ones.
    pub has_more: bool,
}

/// Reads a page of at most `limit` messages and about [`page::MAX_PAGE_BYTES`] of content. The audit entry is on disk before the
/// page is returned.
///
/// # Errors
/// [`DomainError`]
pub async fn history(
    origin: &RequestOrigin,
    services: (&Store, &AuditWriter),
    conversation: &Conversation,
    position: PagePosition,
    limit: u16,
) -> Result<Page, DomainError> {
    origin.principal.check_can_view(conversation)?;
    let limit = usize::from(limit);
    let entry = origin.entry(Action::HistoryRead, 200).in_conversation(conversation, None);
    // One extra row shows whether there are more.
    let read = |store: Store| async move { store.history(conversation, position, limit + 1).await };
    let mut messages = audited_read(origin, services, entry, read).await?;
    let fitting = page::fitting(messages.iter().map(|message| &message.new.content), limit);
    let has_more = messages.len() > fitting;
    messages.truncate(fitting);
    if !matches!(position, PagePosition::After(_)) {
        messages.reverse();
    }
    Ok(Page { conversation_id: conversation.id(), messages, has_more })
}
