//! The operator who runs a command, as the audit trail names them.

use shared::contract::audit::{Action, AuditActor, AuditEntry};
use shared::contract::ids::ParticipantId;

/// A new audit entry of the operator's account at the operating system.
pub(super) fn entry(action: Action) -> AuditEntry {
    let account = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
    let name = |text: &str| text.parse::<ParticipantId>().ok();
    let actor = name(&account).or_else(|| name("unknown")).map_or(AuditActor::System, AuditActor::Operator);
    AuditEntry::new(actor, action, 200)
}
