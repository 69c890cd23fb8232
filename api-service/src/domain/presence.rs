//! Presence of participants, for callers that share a conversation with them and for services.

use std::collections::HashSet;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use shared::contract::audit::{Action, AuditEntry};
use shared::contract::error_code::ProblemCode;
use shared::contract::ids::LocationId;
use shared::contract::participant::{Conversation, Participant};
use shared::contract::presence::Presence;

use super::error::DomainError;
use crate::audit_writer::AuditWriter;
use crate::model::request_origin::RequestOrigin;
use crate::presence_reader::PresenceReader;
use crate::store::Store;

/// Participants per request.
pub const MAX_PARTICIPANTS: usize = 100;

/// The presence of one participant.
#[derive(Debug)]
pub struct ParticipantPresence {
    /// The participant.
    pub participant: Participant,
    /// Its presence.
    pub presence: Presence,
}

impl Serialize for ParticipantPresence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Presence", 3)?;
        fields.serialize_field(
            if self.participant.user_id().is_some() { "user_id" } else { "contact_id" },
            &self.participant.id,
        )?;
        fields.serialize_field("online", &self.presence.is_online())?;
        fields.serialize_field("last_seen_at", &self.presence.last_seen_at())?;
        fields.end()
    }
}

/// The participants that the caller may see.
#[derive(Debug, Serialize)]
pub struct Participants {
    participants: Vec<ParticipantPresence>,
}

/// Reads the presence of these participants. Participants without a shared conversation are omitted, as unknown ones are, so the
/// response does not reveal who exists. The audit entry is on disk before the response is returned.
///
/// # Errors
/// [`DomainError`]
pub async fn presence(
    origin: &RequestOrigin,
    (store, audit_writer, presence_reader): (&Store, &AuditWriter, &PresenceReader),
    location: &LocationId,
    requested: Vec<Participant>,
) -> Result<Participants, DomainError> {
    origin.principal.check_location(location)?;
    let participants = distinct(requested)?;
    let entry = entry(origin, location, &participants);
    let visible = match origin.principal.participant() {
        Some(viewer) => origin.deadline.limit(visible_to(viewer, store, location, participants)).await?,
        None => participants,
    };
    let presence = origin.deadline.limit(presence_reader.presence(location, &visible)).await?;
    audit_writer.record(entry, origin.deadline).await?;
    let participants = visible
        .into_iter()
        .zip(presence)
        .map(|(participant, presence)| ParticipantPresence { participant, presence })
        .collect();
    Ok(Participants { participants })
}

/// Removes duplicates, keeping the order of the request.
fn distinct(mut requested: Vec<Participant>) -> Result<Vec<Participant>, DomainError> {
    if requested.len() > MAX_PARTICIPANTS {
        let detail =
            "The parameters `user_id` and `contact_id` may name 100 participants at most. Ask again for the rest.";
        return Err(DomainError::Input(ProblemCode::OutOfRange, "?user_id", detail));
    }
    let mut seen = HashSet::new();
    requested.retain(|participant| seen.insert(participant.clone()));
    match requested.is_empty() {
        true => {
            let detail = "The parameter `user_id` or `contact_id` is missing. It names the participants.";
            Err(DomainError::Input(ProblemCode::MissingParameter, "?user_id", detail))
        }
        false => Ok(requested),
    }
}

/// The participants that share a conversation with `viewer`, and `viewer` itself.
async fn visible_to(
    viewer: &Participant,
    store: &Store,
    location: &LocationId,
    participants: Vec<Participant>,
) -> Result<Vec<Participant>, DomainError> {
    let conversation = |participant: &Participant| {
        let conversation = Conversation::new(location.clone(), viewer.clone(), participant.clone());
        conversation.ok().map(|conversation| conversation.id())
    };
    let requested: Vec<_> = participants.iter().filter_map(conversation).map(|id| (id, location)).collect();
    let with_messages = if requested.is_empty() { HashSet::new() } else { store.with_messages(&requested).await? };
    let is_visible = |participant: &Participant| {
        participant == viewer || conversation(participant).is_some_and(|id| with_messages.contains(&id))
    };
    Ok(participants.into_iter().filter(is_visible).collect())
}

fn entry(origin: &RequestOrigin, location: &LocationId, participants: &[Participant]) -> AuditEntry {
    let entry = AuditEntry { location: Some(location.clone()), ..origin.entry(Action::PresenceRead, 200) };
    match participants {
        [one] => AuditEntry { counterpart: Some(one.clone()), ..entry },
        many => {
            let names: Vec<_> = many.iter().map(ToString::to_string).collect();
            AuditEntry { detail: Some(names.join(" ")), ..entry }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn people(names: &[&str]) -> Vec<Participant> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn requested_participants_are_deduplicated_and_required() {
        let requested = people(&["user:b", "user:a", "contact:a", "user:b"]);
        assert_eq!(distinct(requested).unwrap(), people(&["user:b", "user:a", "contact:a"]));
        let none = distinct(Vec::new());
        assert!(matches!(none, Err(DomainError::Input(ProblemCode::MissingParameter, "?user_id", _))));
        assert!(distinct(people(&vec!["user:a"; MAX_PARTICIPANTS])).is_ok());
        let many = distinct(people(&vec!["user:a"; MAX_PARTICIPANTS + 1]));
        assert!(matches!(many, Err(DomainError::Input(ProblemCode::OutOfRange, "?user_id", _))));
    }

    #[test]
    fn participants_serialize_as_in_contract() {
        let of =
            |participant: &str, presence| ParticipantPresence { participant: participant.parse().unwrap(), presence };
        let seen = Presence::from_lookup(0, 1_790_000_000_000);
        let participants = vec![
            of("user:doc123", Presence::Online),
            of("contact:pat456", seen),
            of("user:x", Presence::Offline(None)),
        ];
        assert_eq!(
            serde_json::to_value(Participants { participants }).unwrap(),
            serde_json::json!({"participants": [
                {"user_id": "doc123", "online": true, "last_seen_at": null},
                {"contact_id": "pat456", "online": false, "last_seen_at": "2026-09-21T14:13:20.000000Z"},
                {"user_id": "x", "online": false, "last_seen_at": null},
            ]})
        );
    }
}
