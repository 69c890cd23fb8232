//! The audit entries of `keys` commands.

use shared::contract::audit::{Action, AuditEntry};
use shared::contract::ids::MessageId;

use crate::cli::operator;
use crate::store::{Store, StoreError};

/// Records what a command did, and to which messages.
pub(super) async fn record(store: &Store, what: &str, message_ids: Vec<MessageId>) -> Result<(), StoreError> {
    let detail = Some(what.to_owned());
    store.record(&[AuditEntry { detail, message_ids, ..operator::entry(Action::Keys) }]).await.map(drop)
}
