//! Who acts, and what a principal may do.

use time::OffsetDateTime;

use super::jwk::VerificationKeyId;
use crate::contract::error_code::ProblemCode;
use crate::contract::http::problem::Problem;
use crate::contract::ids::{LocationId, ParticipantId};
use crate::contract::participant::{Conversation, Participant};
use crate::contract::revocation::TokenIdentity;

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Actor {
    /// A person, as itself.
    Participant(Participant),
    /// A trusted backend, for any person in its locations.
    Service {
        /// Its `sub`.
        name: ParticipantId,
        /// Whether its claim `admin` is true: it may revoke tokens.
        admin: bool,
    },
}

/// A verified token: who acts, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Who.
    pub actor: Actor,
    /// Where.
    pub locations: Vec<LocationId>,
    /// Until when.
    pub expires_at: OffsetDateTime,
    /// Its `sub`. With `fhirUser` the `sub` may be no valid identifier; then this is the participant's id. A revocation can
    /// name either.
    pub subject: ParticipantId,
    /// Its `iat`, in seconds since 1970.
    pub issued_at: Option<i64>,
    /// Its `jti`.
    pub jti: Option<String>,
    /// What it was signed with. A token does not outlive its key.
    pub key: VerificationKeyId,
}

/// A good token that does not reach this far. The text is for its bearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthorizationError {
    /// The location is not among the token's.
    #[error("The token does not allow this location. Use a token whose `locations` name it.")]
    Location,
    /// A person may act only as itself.
    #[error("The token does not allow acting as this participant. Use a token of this participant.")]
    Participant,
    /// A person may look only into its own conversations.
    #[error("The token's participant is not part of this conversation. Use a token of one of its participants.")]
    Conversation,
    /// What only an administrator can do.
    #[error("Only a `service` token with `\"admin\": true` can do this.")]
    AdminRequired,
    /// What only a receiver can do.
    #[error("Only the receiver's own token can do this.")]
    ParticipantRequired,
}

impl AuthorizationError {
    /// Its code, in a problem and on a socket.
    #[must_use]
    pub fn code(self) -> ProblemCode {
        match self {
            Self::Location | Self::Participant | Self::Conversation | Self::ParticipantRequired => {
                ProblemCode::Forbidden
            }
            Self::AdminRequired => ProblemCode::AdminRequired,
        }
    }
}

impl From<AuthorizationError> for Problem {
    fn from(error: AuthorizationError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl Principal {
    /// The person, when it is one.
    #[must_use]
    pub fn participant(&self) -> Option<&Participant> {
        match &self.actor {
            Actor::Participant(person) => Some(person),
            Actor::Service { .. } => None,
        }
    }

    /// What revocations know its token by.
    #[must_use]
    pub fn identity(&self) -> TokenIdentity<'_> {
        TokenIdentity {
            jti: self.jti.as_deref(),
            subject: &self.subject,
            participant: self.participant().map(|participant| &participant.id),
            issued_at: self.issued_at,
        }
    }

    /// Whether the bearer may revoke tokens.
    ///
    /// # Errors
    /// [`AuthorizationError::AdminRequired`]
    pub fn check_admin(&self) -> Result<(), AuthorizationError> {
        match self.actor {
            Actor::Service { admin: true, .. } => Ok(()),
            _ => Err(AuthorizationError::AdminRequired),
        }
    }

    /// Whether the token is good in `location`.
    ///
    /// # Errors
    /// [`AuthorizationError::Location`]
    pub fn check_location(&self, location: &LocationId) -> Result<(), AuthorizationError> {
        self.locations.contains(location).then_some(()).ok_or(AuthorizationError::Location)
    }

    /// Whether the bearer may speak as `participant` in `location`.
    ///
    /// # Errors
    /// [`AuthorizationError`]
    pub fn check_acts_as(&self, location: &LocationId, participant: &Participant) -> Result<(), AuthorizationError> {
        self.check_location(location)?;
        match self.participant() {
            Some(person) if person != participant => Err(AuthorizationError::Participant),
            _ => Ok(()),
        }
    }

    /// Whether the bearer may look into `conversation`.
    ///
    /// # Errors
    /// [`AuthorizationError`]
    pub fn check_can_view(&self, conversation: &Conversation) -> Result<(), AuthorizationError> {
        self.check_location(conversation.location())?;
        match self.participant() {
            Some(person) if !conversation.has_participant(person) => Err(AuthorizationError::Conversation),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(actor: Actor) -> Principal {
        Principal {
            actor,
            locations: vec!["loc1".parse().unwrap()],
            expires_at: OffsetDateTime::UNIX_EPOCH,
            subject: "doc123".parse().unwrap(),
            issued_at: None,
            jti: None,
            key: VerificationKeyId::SECRET,
        }
    }

    #[test]
    fn participant_acts_only_as_itself() {
        let me = Participant::user("doc123".parse().unwrap());
        let principal = principal(Actor::Participant(me.clone()));
        let (here, there): (LocationId, LocationId) = ("loc1".parse().unwrap(), "loc2".parse().unwrap());
        let patient = Participant::contact("pat456".parse().unwrap());
        // A patient with the same identifier is another participant.
        let namesake = Participant::contact("doc123".parse().unwrap());
        assert_eq!(principal.check_acts_as(&here, &me), Ok(()));
        assert_eq!(principal.check_acts_as(&there, &me), Err(AuthorizationError::Location));
        assert_eq!(principal.check_acts_as(&here, &patient), Err(AuthorizationError::Participant));
        assert_eq!(principal.check_acts_as(&here, &namesake), Err(AuthorizationError::Participant));

        let conversation = |location: &LocationId, a: &Participant, b: &Participant| {
            Conversation::new(location.clone(), a.clone(), b.clone()).unwrap()
        };
        let other = Participant::user("doc9".parse().unwrap());
        assert_eq!(principal.check_can_view(&conversation(&here, &me, &patient)), Ok(()));
        assert_eq!(principal.check_can_view(&conversation(&there, &me, &patient)), Err(AuthorizationError::Location));
        assert_eq!(
            principal.check_can_view(&conversation(&here, &other, &patient)),
            Err(AuthorizationError::Conversation)
        );
        assert_eq!(
            principal.check_can_view(&conversation(&here, &other, &namesake)),
            Err(AuthorizationError::Conversation)
        );
    }

    #[test]
    fn service_acts_only_in_its_locations() {
        let principal = principal(Actor::Service { name: "ehr".parse().unwrap(), admin: false });
        let who = Participant::contact("pat456".parse().unwrap());
        assert_eq!(principal.check_acts_as(&"loc1".parse().unwrap(), &who), Ok(()));
        assert_eq!(principal.check_acts_as(&"loc2".parse().unwrap(), &who), Err(AuthorizationError::Location));
        assert_eq!((principal.participant(), principal.check_admin()), (None, Err(AuthorizationError::AdminRequired)));
    }
}
