//! What the audit trail must know of a request, collected layer by layer: principal, subject, and whether the use case has
//! written its own entry. The middleware writes the entry that is still missing.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use poem::http::Method;
use shared::contract::audit::{Action, AuditActor, AuditEntry};
use shared::contract::http::request::RequestContext;
use shared::contract::ids::LocationId;
use shared::contract::participant::{Conversation, Participant};
use shared::contract::token::Principal;

use crate::model::deadline::Deadline;

/// Audit notes of one request. Clones share them.
#[derive(Clone)]
pub(crate) struct AuditContext {
    notes: Arc<Mutex<Notes>>,
    deadline: Deadline,
}

#[derive(Default)]
struct Notes {
    principal: Option<Arc<Principal>>,
    subject: Subject,
    is_recorded: bool,
}

/// What a request is about.
#[derive(Default)]
enum Subject {
    #[default]
    Nothing,
    /// A conversation, and the participant acted for where that is ambiguous.
    Conversation(Conversation, Option<Participant>),
    /// The data of one participant in a location.
    Participant(LocationId, Participant),
    Location(LocationId),
}

impl AuditContext {
    /// For a request that arrived at this time.
    pub(crate) fn new(arrived: Instant) -> Self {
        Self { notes: Arc::default(), deadline: Deadline::from_arrival(arrived) }
    }

    /// Deadline of the request.
    pub(crate) fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// Records the verified principal.
    pub(crate) fn set_principal(&self, principal: &Arc<Principal>) {
        self.notes.lock().principal = Some(principal.clone());
    }

    /// The verified principal, if there is one.
    pub(crate) fn principal(&self) -> Option<Arc<Principal>> {
        self.notes.lock().principal.clone()
    }

    /// Records the conversation.
    pub(crate) fn set_conversation(&self, conversation: &Conversation, acting: Option<&Participant>) {
        self.notes.lock().subject = Subject::Conversation(conversation.clone(), acting.cloned());
    }

    /// Records the location, and the participant whose data is read.
    pub(crate) fn set_scope(&self, location: &LocationId, whose: Option<&Participant>) {
        self.notes.lock().subject = match whose {
            Some(whose) => Subject::Participant(location.clone(), whose.clone()),
            None => Subject::Location(location.clone()),
        };
    }

    /// The use case has written its entry: with the change, or before the read.
    pub(crate) fn mark_recorded(&self) {
        self.notes.lock().is_recorded = true;
    }

    /// The entry that the middleware must write, if any.
    pub(crate) fn entry(&self, action: Action, status: u16, context: &RequestContext) -> Option<AuditEntry> {
        let notes = self.notes.lock();
        let is_denied = matches!(status, 401 | 403 | 429);
        let is_unrecorded_success = status < 400 && notes.principal.is_some() && !notes.is_recorded;
        if !is_denied && !is_unrecorded_success {
            return None;
        }
        let who =
            notes.principal.as_ref().map_or(AuditActor::Anonymous, |principal| AuditActor::from(&principal.actor));
        let entry = AuditEntry::new(who, action, status).with_request(context);
        Some(match &notes.subject {
            Subject::Nothing => entry,
            Subject::Conversation(conversation, acting) => entry.in_conversation(conversation, acting.as_ref()),
            Subject::Participant(location, whose) => entry.about_participant(location, whose),
            Subject::Location(location) => AuditEntry { location: Some(location.clone()), ..entry },
        })
    }
}

/// The audit action of a method and path.
pub(crate) fn action(method: &Method, path: &str) -> Action {
    // HEAD returns no body, but reads the same data as GET.
    let method = if method == Method::HEAD { &Method::GET } else { method };
    match (method.as_str(), path) {
        ("POST", "/chat/send") => Action::Send,
        ("GET", "/chat/history") => Action::HistoryRead,
        ("GET", "/chat/conversations") => Action::InboxRead,
        ("GET", "/chat/presence") => Action::PresenceRead,
        ("PUT", "/chat/read") => Action::MarkRead,
        ("PUT", "/chat/delivered") => Action::MarkDelivered,
        ("POST", "/chat/ws-ticket") => Action::TicketIssue,
        ("POST", "/admin/revocations") => Action::Revoke,
        _ => Action::Request,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::contract::token::{Actor, VerificationKeyId};

    fn principal() -> Arc<Principal> {
        let person: Participant = "user:doc123".parse().unwrap();
        Arc::new(Principal {
            subject: person.id.clone(),
            actor: Actor::Participant(person),
            locations: Vec::new(),
            expires_at: time::OffsetDateTime::UNIX_EPOCH,
            issued_at: None,
            jti: None,
            key: VerificationKeyId::SECRET,
        })
    }

    fn context() -> RequestContext {
        RequestContext { request_id: "r1".into(), address: [203, 0, 113, 9].into() }
    }

    #[test]
    fn entry_is_due_for_denied_requests_only_among_failures() {
        let audit = AuditContext::new(Instant::now());
        let entry = audit.entry(Action::Send, 401, &context()).unwrap();
        assert_eq!((entry.actor, entry.outcome), (AuditActor::Anonymous, 401));
        audit.set_principal(&principal());
        assert_eq!(audit.entry(Action::Send, 403, &context()).unwrap().actor.to_string(), "user:doc123");
        for status in [400, 404, 409, 413, 422, 500, 503] {
            assert_eq!(audit.entry(Action::Send, status, &context()), None, "{status}");
        }
    }

    #[test]
    fn head_has_same_action_as_get() {
        for path in ["/chat/history", "/chat/conversations", "/chat/presence", "/chat/send", "/"] {
            assert_eq!(action(&Method::HEAD, path), action(&Method::GET, path), "{path}");
        }
        assert_eq!(action(&Method::HEAD, "/chat/history"), Action::HistoryRead);
    }

    #[test]
    fn entry_is_due_for_unrecorded_success_only() {
        let audit = AuditContext::new(Instant::now());
        assert_eq!(audit.entry(Action::Request, 200, &context()), None, "a public page");
        audit.set_principal(&principal());
        assert!(audit.entry(Action::TicketIssue, 200, &context()).is_some());
        audit.mark_recorded();
        assert_eq!(audit.entry(Action::TicketIssue, 200, &context()), None);
    }
}
