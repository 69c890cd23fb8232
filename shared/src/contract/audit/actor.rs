//! Who acted.

use std::fmt;
use std::str::FromStr;

use crate::contract::ids::{InvalidId, ParticipantId};
use crate::contract::participant::Participant;
use crate::contract::token::Actor;

/// Who acted. Written `user:doc123`, `contact:pat456`, `service:ehr-backend`, `operator:root`, `anonymous`, `system`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AuditActor {
    /// Staff or patient, by a good token.
    Participant(Participant),
    /// A trusted backend, by a good token.
    Service(ParticipantId),
    /// An operator with a shell, by the name of the system account.
    Operator(ParticipantId),
    /// A caller without a valid token.
    Anonymous,
    /// A service of this system, about itself.
    System,
}

impl From<&Actor> for AuditActor {
    fn from(actor: &Actor) -> Self {
        match actor {
            Actor::Participant(person) => Self::Participant(person.clone()),
            Actor::Service { name, .. } => Self::Service(name.clone()),
        }
    }
}

impl fmt::Display for AuditActor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Participant(person) => person.fmt(f),
            Self::Service(name) => write!(f, "service:{name}"),
            Self::Operator(name) => write!(f, "operator:{name}"),
            Self::Anonymous => f.write_str("anonymous"),
            Self::System => f.write_str("system"),
        }
    }
}

impl FromStr for AuditActor {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Ok(match text.split_once(':') {
            Some(("service", name)) => Self::Service(name.parse()?),
            Some(("operator", name)) => Self::Operator(name.parse()?),
            Some(_) => Self::Participant(text.parse()?),
            None if text == "anonymous" => Self::Anonymous,
            None if text == "system" => Self::System,
            None => return Err(InvalidId),
        })
    }
}
