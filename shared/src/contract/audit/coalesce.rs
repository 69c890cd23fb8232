//! Equal denials become one entry with a count.

use std::collections::HashMap;
use std::net::IpAddr;

use super::{Action, AuditActor, AuditEntry};
use crate::contract::ids::{ConversationId, LocationId};
use crate::contract::participant::Participant;

type CoalesceKey = (
    AuditActor,
    Action,
    u16,
    Option<LocationId>,
    Option<ConversationId>,
    Option<Participant>,
    Option<Participant>,
    Option<IpAddr>,
);

/// Makes one entry of refusals that differ in nothing but their time and their request: the first stands for all.
#[must_use]
pub fn coalesce(entries: Vec<AuditEntry>) -> Vec<AuditEntry> {
    let mut kept: Vec<AuditEntry> = Vec::with_capacity(entries.len());
    let mut places: HashMap<CoalesceKey, usize> = HashMap::new();
    for entry in entries {
        if entry.is_denied() {
            let sameness = (
                entry.actor.clone(),
                entry.action,
                entry.outcome,
                entry.location.clone(),
                entry.conversation,
                entry.acts_for.clone(),
                entry.counterpart.clone(),
                entry.request.as_ref().map(|request| request.address),
            );
            if let Some(first) = places.get(&sameness).and_then(|place| kept.get_mut(*place)) {
                first.times = first.times.saturating_add(entry.times);
                continue;
            }
            places.insert(sameness, kept.len());
        }
        kept.push(entry);
    }
    kept
}
