//! What a socket subscribes to: one conversation, or one participant's inbox.
//!
//! A conversation has a log, from which a socket resumes. An inbox has none: each frame is the current state of a
//! row.

use shared::contract::audit::{Action, AuditActor, AuditEntry};
use shared::contract::http::request::RequestContext;
use shared::contract::ids::{ConversationId, LocationId};
use shared::contract::participant::{Conversation, Participant};
use shared::contract::redis::keys::Channel;
use shared::contract::token::{AuthorizationError, Principal};

/// The topic of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Topic {
    /// Events of a conversation.
    Conversation(Conversation),
    /// Rows of an inbox.
    Inbox(LocationId, Participant),
}

impl Topic {
    pub(crate) fn location(&self) -> &LocationId {
        match self {
            Self::Conversation(conversation) => conversation.location(),
            Self::Inbox(location, _) => location,
        }
    }

    pub(crate) fn channel(&self) -> Channel {
        match self {
            Self::Conversation(conversation) => Channel::from(conversation),
            Self::Inbox(location, participant) => Channel::inbox(location, participant),
        }
    }

    pub(crate) fn conversation_id(&self) -> Option<ConversationId> {
        match self {
            Self::Conversation(conversation) => Some(conversation.id()),
            Self::Inbox(..) => None,
        }
    }

    /// The conversation with both participants.
    pub(crate) fn conversation(&self) -> Option<&Conversation> {
        match self {
            Self::Conversation(conversation) => Some(conversation),
            Self::Inbox(..) => None,
        }
    }

    /// Whether this principal may subscribe.
    pub(crate) fn check(&self, principal: &Principal) -> Result<(), AuthorizationError> {
        match self {
            Self::Conversation(conversation) => principal.check_can_view(conversation),
            Self::Inbox(location, participant) => principal.check_acts_as(location, participant),
        }
    }

    /// An audit entry about this topic.
    pub(crate) fn entry(
        &self,
        action: Action,
        outcome: u16,
        actor: AuditActor,
        context: &RequestContext,
    ) -> AuditEntry {
        let entry = AuditEntry::new(actor, action, outcome).with_request(context);
        match self {
            Self::Conversation(conversation) => entry.in_conversation(conversation, None),
            Self::Inbox(location, participant) => entry.about_participant(location, participant),
        }
    }
}
