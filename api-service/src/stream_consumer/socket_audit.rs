//! Writes the gateways' audit entries about sockets: opened, closed, denied. Each entry has an id, so a repeated one is
//! recognized.

use shared::contract::audit::{Action, AuditActor, AuditEntry};
use shared::contract::redis::keys::AUDIT_STREAM;

use crate::store::{Store, StoreError};
use crate::stream_consumer::handler::StreamHandler;

/// Handles socket entries.
pub struct SocketAuditHandler {
    /// The database.
    pub store: Store,
}

/// Whether a gateway may report this. Anyone who can write to Redis could add any entry, and it would become a row of the trail.
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
    const STREAM: &'static str = AUDIT_STREAM;
    const HANDLED_METRIC: &'static str = "ehr_chat_audit_socket_events_total";
    const DROPPED_METRIC: &'static str = "ehr_chat_audit_socket_events_dropped_total";
    /// Never dropped: no entry may be missing, and a rejection is not the entry's fault.
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
    fn only_socket_entries_are_accepted() {
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
