//! Who asks for something, and by which request: what the audit trail is told of it.

use std::sync::Arc;

use shared::audit::{Action, AuditActor, AuditEntry};
use shared::request::RequestContext;
use shared::token::Principal;

use super::deadline::Deadline;

/// Who asks, and by which request.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The bearer of a good token.
    pub principal: Arc<Principal>,
    /// The request.
    pub request: RequestContext,
    /// Until when it is to be answered.
    pub deadline: Deadline,
}

impl Origin {
    /// An entry about something that was asked for.
    #[must_use]
    pub fn entry(&self, action: Action, outcome: u16) -> AuditEntry {
        AuditEntry::new(AuditActor::from(&self.principal.actor), action, outcome).with_request(&self.request)
    }
}
