//! What the gateways have to say for the audit trail: sockets opened, closed, refused. Each entry has an id, by which one that
//! comes twice is known.

use shared::audit::Entry;
use shared::channel::AUDIT;

use crate::store::{Store, StoreError};
use crate::stream::Taker;

/// Writes them down.
pub struct SocketEvents {
    /// Where the trail is kept.
    pub store: Store,
}

impl Taker for SocketEvents {
    const STREAM: &'static str = AUDIT;
    const TAKEN: &'static str = "audit_socket_events_total";
    const DROPPED: &'static str = "audit_socket_events_dropped_total";
    /// For ever: whatever it is that the database refuses, it is not what one of them says, and none may be missing.
    const ATTEMPTS: usize = usize::MAX;
    type Entry = Entry;

    fn decode(text: &str) -> Option<Entry> {
        Entry::decode(text).ok()
    }

    async fn take(&self, entries: &[Entry]) -> Result<(), StoreError> {
        self.store.record_once(entries).await
    }
}
