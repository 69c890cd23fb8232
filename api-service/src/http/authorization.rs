//! Authorization comes first: a caller without the right gets 403, even if the request has other errors. A part that cannot be
//! parsed names no target and so is not forbidden.

use std::str::FromStr;

use poem::Request;
use poem::http::Method;
use shared::contract::audit::Action;
use shared::contract::http::query;
use shared::contract::ids::{LocationId, ParticipantId};
use shared::contract::participant::{Conversation, Participant};
use shared::contract::token::{AuthorizationError, Principal};

use crate::http::audit::{AuditContext, action};

/// Checks whether the principal may read what a query names, and records that target for the audit trail.
///
/// # Errors
/// [`AuthorizationError`]
pub(crate) fn check_query(
    (method, path): (&Method, &str),
    query: &str,
    principal: &Principal,
    audit: &AuditContext,
) -> Result<(), AuthorizationError> {
    let action = action(method, path);
    if !matches!(action, Action::HistoryRead | Action::InboxRead | Action::PresenceRead) {
        return Ok(());
    }
    let target = QueryTarget::parse(query);
    let location: Option<LocationId> = target.single("location_id");
    if let Some(location) = &location {
        audit.set_scope(location, None);
    }
    match action {
        Action::HistoryRead => {
            check_can_act_as(principal, location.as_ref(), None)?;
            let Some(conversation) = location.and_then(|location| target.conversation(location)) else { return Ok(()) };
            audit.set_conversation(&conversation, None);
            principal.check_can_view(&conversation)
        }
        Action::InboxRead => {
            let owner = target.user("user_id").xor(target.contact());
            if let (Some(location), Some(owner)) = (&location, &owner) {
                audit.set_scope(location, Some(owner));
            }
            check_can_act_as(principal, location.as_ref(), owner.as_ref())
        }
        _ => check_can_act_as(principal, location.as_ref(), None),
    }
}

/// Checks whether the principal may act as the sender that a body names, as far as the body could be parsed. Records the scope
/// for the audit trail.
///
/// # Errors
/// [`AuthorizationError`]
pub(crate) fn check_sender(
    request: &Request,
    location: Option<&LocationId>,
    sender: Option<&Participant>,
) -> Result<(), AuthorizationError> {
    let Some(audit) = request.data::<AuditContext>() else { return Ok(()) };
    let Some(principal) = audit.principal() else { return Ok(()) };
    if let Some(location) = location {
        audit.set_scope(location, sender);
    }
    check_can_act_as(&principal, location, sender)
}

fn check_can_act_as(
    principal: &Principal,
    location: Option<&LocationId>,
    participant: Option<&Participant>,
) -> Result<(), AuthorizationError> {
    if let Some(location) = location {
        principal.check_location(location)?;
    }
    match (principal.participant(), participant) {
        (Some(person), Some(participant)) if person != participant => Err(AuthorizationError::Participant),
        _ => Ok(()),
    }
}

/// The query pairs that could be decoded.
struct QueryTarget(Vec<(String, String)>);

impl QueryTarget {
    fn parse(query: &str) -> Self {
        Self(query.split('&').filter(|pair| pair.contains('=')).filter_map(query::pair).collect())
    }

    /// The value of a parameter that occurs exactly once.
    fn single<T: FromStr>(&self, name: &str) -> Option<T> {
        let mut values = self.0.iter().filter(|(known, _)| known == name);
        let (_, value) = values.next()?;
        if values.next().is_some() { None } else { value.parse().ok() }
    }

    fn user(&self, name: &str) -> Option<Participant> {
        self.single::<ParticipantId>(name).map(Participant::user)
    }

    fn contact(&self) -> Option<Participant> {
        self.single::<ParticipantId>("contact_id").map(Participant::contact)
    }

    /// The conversation that the query names, if it names exactly one.
    fn conversation(&self, location: LocationId) -> Option<Conversation> {
        let other = self.contact().xor(self.user("peer_user_id"))?;
        Conversation::new(location, self.user("user_id")?, other).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::contract::token::{Actor, VerificationKeyId};

    fn principal(actor: Actor) -> Principal {
        Principal {
            actor,
            locations: vec!["loc1".parse().unwrap()],
            expires_at: time::OffsetDateTime::UNIX_EPOCH,
            subject: "doc".parse().unwrap(),
            issued_at: None,
            jti: None,
            key: VerificationKeyId::SECRET,
        }
    }

    fn checked(path: &str, query: &str, principal: &Principal) -> Result<(), AuthorizationError> {
        check_query((&Method::GET, path), query, principal, &AuditContext::new(std::time::Instant::now()))
    }

    #[test]
    fn query_target_is_authorized_despite_other_query_errors() {
        let doctor = principal(Actor::Participant("user:doc".parse().unwrap()));
        let service = principal(Actor::Service { name: "ehr".parse().unwrap(), admin: false });
        let wrong = "&limit=x&nonsense&x=%zz&before=1&before=1";
        for (path, query, doctors, services) in [
            ("/chat/history", "location_id=loc1&user_id=doc&contact_id=pat", Ok(()), Ok(())),
            (
                "/chat/history",
                "location_id=loc1&user_id=x&contact_id=pat",
                Err(AuthorizationError::Conversation),
                Ok(()),
            ),
            ("/chat/history", "location_id=loc1&user_id=x&peer_user_id=doc", Ok(()), Ok(())),
            ("/chat/history", "location_id=loc2", Err(AuthorizationError::Location), Err(AuthorizationError::Location)),
            ("/chat/conversations", "location_id=loc1", Ok(()), Ok(())),
            ("/chat/conversations", "location_id=loc1&contact_id=doc", Err(AuthorizationError::Participant), Ok(())),
            ("/chat/conversations", "user_id=x", Err(AuthorizationError::Participant), Ok(())),
            ("/chat/presence", "location_id=loc1&user_id=x", Ok(()), Ok(())),
            (
                "/chat/presence",
                "l%6fcation_id=loc2",
                Err(AuthorizationError::Location),
                Err(AuthorizationError::Location),
            ),
            ("/chat/elsewhere", "location_id=loc2", Ok(()), Ok(())),
        ] {
            for more in ["", wrong] {
                let query = format!("{query}{more}");
                assert_eq!(checked(path, &query, &doctor), doctors, "{path}?{query}");
                assert_eq!(checked(path, &query, &service), services, "{path}?{query}");
            }
        }
    }

    #[test]
    fn unparsable_query_target_is_not_forbidden() {
        let doctor = principal(Actor::Participant("user:doc".parse().unwrap()));
        for query in [
            "",
            "location_id",
            "location_id=a%2Fb",
            "location_id=loc2&location_id=loc1",
            "location_id=loc1&user_id=a/b&contact_id=pat",
            "location_id=loc1&user_id=x&contact_id=pat&peer_user_id=y",
            "location_id=loc1&user_id=x&peer_user_id=x",
        ] {
            assert_eq!(checked("/chat/history", query, &doctor), Ok(()), "{query}");
        }
    }
}
