//! Who takes part in a conversation, and the conversation that a pair of them makes.
//!
//! A conversation needs no look-up to be named: its id follows from the location and the pair.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::contract::error_code::ProblemCode;
use crate::contract::ids::{ConversationId, InvalidId, LocationId, ParticipantId};

/// Staff or patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ParticipantKind {
    /// Staff: `user_id`.
    User,
    /// A patient, or who speaks for one: `contact_id`.
    Contact,
}

impl ParticipantKind {
    /// The word for it in tokens and in Redis names.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Contact => "contact",
        }
    }
}

/// A person who can send and receive. Written `user:doc123` or `contact:pat456`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Participant {
    /// Staff or patient.
    pub kind: ParticipantKind,
    /// The EHR's identifier; users and contacts are counted separately.
    pub id: ParticipantId,
}

impl Participant {
    /// A member of staff.
    #[must_use]
    pub fn user(id: ParticipantId) -> Self {
        Self { kind: ParticipantKind::User, id }
    }

    /// A patient.
    #[must_use]
    pub fn contact(id: ParticipantId) -> Self {
        Self { kind: ParticipantKind::Contact, id }
    }

    /// The identifier, when this is a user.
    #[must_use]
    pub fn user_id(&self) -> Option<&ParticipantId> {
        (self.kind == ParticipantKind::User).then_some(&self.id)
    }

    /// The identifier, when this is a contact.
    #[must_use]
    pub fn contact_id(&self) -> Option<&ParticipantId> {
        (self.kind == ParticipantKind::Contact).then_some(&self.id)
    }
}

impl fmt::Display for Participant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.as_str(), self.id)
    }
}

impl FromStr for Participant {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (kind, id) = text.split_once(':').ok_or(InvalidId)?;
        let kind = match kind {
            "user" => ParticipantKind::User,
            "contact" => ParticipantKind::Contact,
            _ => return Err(InvalidId),
        };
        Ok(Self { kind, id: id.parse()? })
    }
}

/// Why two participants make no conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPair {
    /// Patients do not write to each other through their hospital.
    #[error("Contacts cannot write to each other. Name a user.")]
    TwoContacts,
    /// A person and itself.
    #[error("Both sides of the conversation are the same participant. Name two participants.")]
    Same,
}

impl InvalidPair {
    /// Its code.
    #[must_use]
    pub fn code(self) -> ProblemCode {
        match self {
            Self::TwoContacts => ProblemCode::ContactToContact,
            Self::Same => ProblemCode::SameParticipant,
        }
    }
}

/// One pair of participants in one location: user and contact, or two users.
///
/// The pair is kept in a fixed order (see [`Conversation::first`]), so equal pairs are equal values.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Conversation {
    id: ConversationId,
    location: LocationId,
    first: Participant,
    second: Participant,
}

/// Namespace of our UUIDv5s; chosen once, at random, and fixed for ever.
const CONVERSATION_NAMESPACE: Uuid = Uuid::from_u128(0x8c5f_3a52_6d0e_4f8b_9a57_1e4d_0c3b_7f21);

impl Conversation {
    /// The conversation of `a` and `b`, whichever of them is named first.
    ///
    /// # Errors
    /// [`InvalidPair`] for two contacts, or one person twice.
    pub fn new(location: LocationId, a: Participant, b: Participant) -> Result<Self, InvalidPair> {
        if a.kind == ParticipantKind::Contact && b.kind == ParticipantKind::Contact {
            return Err(InvalidPair::TwoContacts);
        }
        if a == b {
            return Err(InvalidPair::Same);
        }
        // `Kind` orders users before contacts; two users order by identifier.
        let (first, second) = if a < b { (a, b) } else { (b, a) };
        // Neither `/` nor `:` can occur in an identifier, so no two conversations share a name.
        let name = format!("{location}/{first}/{second}");
        let id = Uuid::new_v5(&CONVERSATION_NAMESPACE, name.as_bytes());
        Ok(Self { id, location, first, second })
    }

    /// UUIDv5 of `location/user:…/contact:…`, or of `location/user:…/user:…`.
    #[must_use]
    pub fn id(&self) -> ConversationId {
        self.id
    }

    /// The tenant.
    #[must_use]
    pub fn location(&self) -> &LocationId {
        &self.location
    }

    /// The user; of two users the one whose identifier sorts first, byte by byte.
    #[must_use]
    pub fn first(&self) -> &Participant {
        &self.first
    }

    /// The contact, or the other user.
    #[must_use]
    pub fn second(&self) -> &Participant {
        &self.second
    }

    /// Whether `participant` takes part.
    #[must_use]
    pub fn has_participant(&self, participant: &Participant) -> bool {
        self.first == *participant || self.second == *participant
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: &str) -> Participant {
        Participant::user(id.parse().unwrap())
    }

    fn contact(id: &str) -> Participant {
        Participant::contact(id.parse().unwrap())
    }

    fn conversation(location: &str, a: Participant, b: Participant) -> Result<Conversation, InvalidPair> {
        Conversation::new(location.parse().unwrap(), a, b)
    }

    #[test]
    fn pair_has_one_conversation_in_either_order() {
        let there = conversation("loc1", user("doc123"), contact("pat456")).unwrap();
        let back = conversation("loc1", contact("pat456"), user("doc123")).unwrap();
        assert_eq!(there, back);
        assert_eq!(there.id(), back.id());
        assert_eq!(
            conversation("loc1", user("b"), user("a")).unwrap().id(),
            conversation("loc1", user("a"), user("b")).unwrap().id()
        );
    }

    #[test]
    fn conversation_ids_are_pinned() {
        let id = conversation("loc1", user("doc123"), contact("pat456")).unwrap().id();
        assert_eq!(id.to_string(), "d73d142b-e255-53a0-a91a-0514e07ecfcf");
    }

    #[test]
    fn location_kind_and_id_distinguish_conversations() {
        let ids = [
            conversation("loc1", user("a"), contact("b")).unwrap().id(),
            conversation("loc2", user("a"), contact("b")).unwrap().id(),
            conversation("loc1", user("a"), user("b")).unwrap().id(),
            conversation("loc1", user("b"), contact("a")).unwrap().id(),
        ];
        let distinct: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }

    #[test]
    fn invalid_pairs_are_rejected() {
        assert_eq!(conversation("l", contact("a"), contact("b")), Err(InvalidPair::TwoContacts));
        assert_eq!(conversation("l", user("a"), user("a")), Err(InvalidPair::Same));
        assert!(conversation("l", user("a"), contact("a")).is_ok());
    }

    #[test]
    fn participants_survive_a_round_trip() {
        for participant in [user("doc123"), contact("pat~4.5_6-")] {
            assert_eq!(participant.to_string().parse::<Participant>(), Ok(participant));
        }
        assert!("doctor:x".parse::<Participant>().is_err());
        assert!("user:a b".parse::<Participant>().is_err());
    }
}
