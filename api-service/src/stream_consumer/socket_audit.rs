//! What the gateways have to say for the audit trail: sockets opened, closed, refused. Each entry has an id, by which one that
//! comes twice is known.

use shared::audit::{Action, AuditActor, AuditEntry};
use shared::channel::AUDIT;

use crate::store::{Store, StoreError};
use crate::stream_consumer::StreamHandler;

/// Writes them down.
pub struct SocketAuditHandler {
    /// Where the trail is kept.
    pub store: Store,
}

/// Whether a gateway has this to tell. Whoever can write to Redis could say anything, and it would stand in the trail as ours.
fn is_socket_entry(entry: &AuditEntry) -> bool {
    let is_known = match entry.action {
        Action::SocketOpen | Action::SocketClose | Action::SocketAuth => {
            !matches!(entry.actor, AuditActor::Operator(_) | AuditActor::System)
        }
        Action::Lost => entry.actor == AuditActor::System,
        _ => false,
    };
    is_known && entry.event.is_some()
}

impl StreamHandler for SocketAuditHandler {
    const STREAM: &'static str = AUDIT;
    const HANDLED_METRIC: &'static str = "audit_socket_events_total";
    const DROPPED_METRIC: &'static str = "audit_socket_events_dropped_total";
    /// For ever: whatever it is that the database refuses, it is not what one of them says, and none may be missing.
    const MAX_ATTEMPTS: Option<usize> = None;
    type Entry = AuditEntry;

    fn decode(text: &str) -> Option<AuditEntry> {
        AuditEntry::decode(text).ok().filter(is_socket_entry)
    }

    async fn handle(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        self.store.record_once(entries).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_happens_to_sockets_is_taken() {
        let entry = |who: &str, action| AuditEntry {
            event: Some(uuid::Uuid::now_v7()),
            ..AuditEntry::new(who.parse().unwrap(), action, 101)
        };
        for good in [
            entry("user:doc123", Action::SocketOpen),
            entry("anonymous", Action::SocketOpen),
            entry("service:ehr", Action::SocketClose),
            entry("contact:pat456", Action::SocketAuth),
            entry("system", Action::Lost),
        ] {
            assert!(SocketAuditHandler::decode(&good.encode().unwrap()).is_some(), "{good:?}");
        }
        for bad in [
            entry("user:doc123", Action::HistoryRead),
            entry("user:doc123", Action::Send),
            entry("operator:root", Action::Export),
            entry("operator:root", Action::SocketOpen),
            entry("user:doc123", Action::Lost),
            AuditEntry { event: None, ..entry("user:doc123", Action::SocketOpen) },
        ] {
            assert!(SocketAuditHandler::decode(&bad.encode().unwrap()).is_none(), "{bad:?}");
        }
        let ancient = AuditEntry {
            at: time::macros::datetime!(-5000-01-01 0:00 UTC),
            ..entry("user:doc123", Action::SocketOpen)
        };
        assert!(SocketAuditHandler::decode(&ancient.encode().unwrap()).is_none());
    }
}
