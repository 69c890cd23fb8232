//! The origin of a request: its principal, context and deadline.

use std::sync::Arc;

use shared::contract::audit::{Action, AuditActor, AuditEntry};
use shared::contract::http::request::RequestContext;
use shared::contract::token::Principal;

use super::deadline::Deadline;

/// The origin of a request.
#[derive(Debug, Clone)]
pub struct RequestOrigin {
    /// The verified principal.
    pub principal: Arc<Principal>,
    /// The request.
    pub request: RequestContext,
    /// The deadline.
    pub deadline: Deadline,
}

impl RequestOrigin {
    /// A new audit entry of this principal and request.
    #[must_use]
    pub fn entry(&self, action: Action, outcome: u16) -> AuditEntry {
        AuditEntry::new(AuditActor::from(&self.principal.actor), action, outcome).with_request(&self.request)
    }
}
