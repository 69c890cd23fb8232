//! Who did what, from where, with which outcome: one entry of the audit trail, before it has a place there.
//!
//! The API service writes entries; gateways, which have no database, send theirs through Redis. No entry ever holds content
//! or a token.

mod action;
mod actor;
mod coalesce;
pub mod denials;

pub use action::Action;
pub use actor::AuditActor;
pub use coalesce::coalesce;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::contract::http::problem;
use crate::contract::http::request::RequestContext;
use crate::contract::ids::{ConversationId, LocationId, MessageId};
use crate::contract::participant::{Conversation, Participant};
use crate::contract::receipt;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// When; whole microseconds, as the database keeps them.
    pub at: OffsetDateTime,
    /// Who.
    pub actor: AuditActor,
    /// What.
    pub action: Action,
    /// HTTP status or close code.
    pub outcome: u16,
    /// Where.
    pub location: Option<LocationId>,
    /// In which conversation.
    pub conversation: Option<ConversationId>,
    /// The participant on whose behalf the actor acts, when that is not the actor itself.
    pub acts_for: Option<Participant>,
    /// The other side of the conversation.
    pub counterpart: Option<Participant>,
    /// The messages that it is about.
    pub message_ids: Vec<MessageId>,
    /// What the rest does not say: which token was revoked, say. Never content.
    pub detail: Option<String>,
    /// The request, and its source.
    pub request: Option<RequestContext>,
    /// How often: refusals that are the same are one entry.
    pub times: u32,
    /// Of an entry that may arrive twice.
    pub event: Option<Uuid>,
}

impl AuditEntry {
    /// At this moment, and about nothing yet.
    #[must_use]
    pub fn new(who: AuditActor, action: Action, outcome: u16) -> Self {
        let now = OffsetDateTime::now_utc();
        Self {
            at: now.replace_microsecond(now.microsecond()).unwrap_or(now),
            actor: who,
            action,
            outcome,
            location: None,
            conversation: None,
            acts_for: None,
            counterpart: None,
            message_ids: Vec::new(),
            detail: None,
            request: None,
            times: 1,
            event: None,
        }
    }

    /// The same, by a request.
    #[must_use]
    pub fn with_request(self, request: &RequestContext) -> Self {
        Self { request: Some(request.clone()), ..self }
    }

    /// The same, in a conversation. `acting` is the participant on whose behalf the actor acts, if any.
    #[must_use]
    pub fn in_conversation(mut self, conversation: &Conversation, acting: Option<&Participant>) -> Self {
        let own = if let AuditActor::Participant(person) = &self.actor { Some(person) } else { None };
        let is_own =
            own.is_some_and(|own| conversation.has_participant(own) && acting.is_none_or(|acting| acting == own));
        let side =
            acting.or(own).filter(|side| conversation.has_participant(side)).unwrap_or(conversation.first()).clone();
        let other = if side == *conversation.first() { conversation.second() } else { conversation.first() };
        self.location = Some(conversation.location().clone());
        self.conversation = Some(conversation.id());
        self.counterpart = Some(other.clone());
        self.acts_for = (!is_own).then_some(side);
        self
    }

    /// The same, in the inbox or presence of a participant.
    #[must_use]
    pub fn about_participant(mut self, location: &LocationId, whose: &Participant) -> Self {
        let is_own = matches!(&self.actor, AuditActor::Participant(person) if person == whose);
        self.location = Some(location.clone());
        self.acts_for = (!is_own).then(|| whose.clone());
        self
    }

    /// Whether the request was denied or rejected. (Close codes begin at 1000.)
    #[must_use]
    pub fn is_denied(&self) -> bool {
        (400..500).contains(&self.outcome)
    }

    /// The value of the stream entry's only field, [`crate::contract::redis::keys::ENTRY_FIELD`].
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn encode(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&EncodedEntry {
            at_micros: i64::try_from(self.at.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX),
            who: self.actor.to_string(),
            action: self.action,
            outcome: self.outcome,
            location: self.location.clone(),
            conversation: self.conversation,
            acts_for: self.acts_for.as_ref().map(ToString::to_string),
            counterpart: self.counterpart.as_ref().map(ToString::to_string),
            request_id: self.request.as_ref().map(|request| request.request_id.to_string()),
            source: self.request.as_ref().map(|request| request.address),
            times: self.times,
            event: self.event,
        })
    }

    /// Reads what [`Entry::encode`] wrote: entries of sockets, which are about no single message.
    ///
    /// # Errors
    /// [`InvalidAuditEntry`] for anything else.
    pub fn decode(text: &str) -> Result<Self, InvalidAuditEntry> {
        let wire: EncodedEntry = serde_json::from_str(text).map_err(|_| InvalidAuditEntry)?;
        let at = receipt::parse_micros(wire.at_micros);
        let participant =
            |text: Option<String>| text.map(|text| text.parse().map_err(|_| InvalidAuditEntry)).transpose();
        let request = match (wire.request_id, wire.source) {
            (Some(id), Some(address)) => {
                Some(RequestContext { request_id: problem::accept_request_id(Some(&id)).into(), address })
            }
            (None, None) => None,
            _ => return Err(InvalidAuditEntry),
        };
        Ok(Self {
            at: at.ok_or(InvalidAuditEntry)?,
            actor: wire.who.parse().map_err(|_| InvalidAuditEntry)?,
            action: wire.action,
            outcome: wire.outcome,
            location: wire.location,
            conversation: wire.conversation,
            acts_for: participant(wire.acts_for)?,
            counterpart: participant(wire.counterpart)?,
            message_ids: Vec::new(),
            detail: None,
            request,
            times: wire.times,
            event: wire.event,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct EncodedEntry {
    at_micros: i64,
    who: String,
    action: Action,
    outcome: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    location: Option<LocationId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    conversation: Option<ConversationId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    acts_for: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counterpart: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<IpAddr>,
    times: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event: Option<Uuid>,
}

/// A stream entry that is not an audit entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an entry of the audit trail")]
pub struct InvalidAuditEntry;

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation() -> Conversation {
        let [user, contact] = ["user:doc", "contact:pat"].map(|text| text.parse().unwrap());
        Conversation::new("loc1".parse().unwrap(), user, contact).unwrap()
    }

    fn request(id: &str, address: [u8; 4]) -> RequestContext {
        RequestContext { request_id: id.into(), address: address.into() }
    }

    fn sides(who: &str, acting: Option<&str>) -> (Option<String>, Option<String>) {
        let acting = acting.map(|text| text.parse().unwrap());
        let entry =
            AuditEntry::new(who.parse().unwrap(), Action::Send, 201).in_conversation(&conversation(), acting.as_ref());
        (entry.acts_for.map(|side| side.to_string()), entry.counterpart.map(|side| side.to_string()))
    }

    #[test]
    fn actors_survive_a_round_trip() {
        for text in ["user:a", "contact:a", "service:ehr", "operator:root", "anonymous", "system"] {
            assert_eq!(text.parse::<AuditActor>().map(|who| who.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "a", "user:", "admin:a", "anonymous:a", "service:a b"] {
            assert!(text.parse::<AuditActor>().is_err(), "{text}");
        }
    }

    #[test]
    fn entry_names_both_sides_of_conversation() {
        let side = |text: &str| Some(text.to_owned());
        assert_eq!(sides("contact:pat", None), (None, side("user:doc")));
        assert_eq!(sides("user:doc", Some("user:doc")), (None, side("contact:pat")));
        assert_eq!(sides("service:ehr", Some("contact:pat")), (side("contact:pat"), side("user:doc")));
        assert_eq!(sides("service:ehr", None), (side("user:doc"), side("contact:pat")));
        assert_eq!(sides("user:other", None), (side("user:doc"), side("contact:pat")), "a stranger");
        assert_eq!(sides("user:other", Some("contact:pat")), (side("contact:pat"), side("user:doc")));
    }

    #[test]
    fn socket_entry_survives_a_round_trip() {
        let mut entry = AuditEntry::new("user:doc".parse().unwrap(), Action::SocketClose, 4408)
            .in_conversation(&conversation(), None)
            .with_request(&request("r1", [203, 0, 113, 9]));
        entry.event = Some(Uuid::from_u128(7));
        assert_eq!(AuditEntry::decode(&entry.encode().unwrap()), Ok(entry));
        let lost = AuditEntry { times: 7, ..AuditEntry::new(AuditActor::System, Action::Lost, 0) };
        assert_eq!(AuditEntry::decode(&lost.encode().unwrap()), Ok(lost));
        for text in ["", "{}", r#"{"at_micros":0,"who":"nobody","action":"send","outcome":1,"times":1}"#] {
            assert_eq!(AuditEntry::decode(text), Err(InvalidAuditEntry), "{text}");
        }
    }

    #[test]
    fn coalesce_merges_only_equal_denials() {
        let refused = |address| {
            AuditEntry::new(AuditActor::Anonymous, Action::SocketOpen, 401)
                .with_request(&request(&Uuid::now_v7().to_string(), address))
        };
        let opened = AuditEntry::new("user:doc".parse().unwrap(), Action::SocketOpen, 101);
        let all = vec![refused([1; 4]), opened.clone(), refused([2; 4]), refused([1; 4]), opened, refused([1; 4])];
        let first = all[0].clone();
        let kept = coalesce(all);
        assert_eq!(kept.iter().map(|entry| entry.times).collect::<Vec<_>>(), [3, 1, 1, 1]);
        assert_eq!(kept[0], AuditEntry { times: 3, ..first });
    }

    #[test]
    fn actions_have_distinct_names() {
        let names: std::collections::HashSet<_> = Action::ALL.iter().map(|action| action.as_str()).collect();
        assert_eq!(names.len(), Action::ALL.len());
    }
}
