//! Tokens that are refused before they expire. The set only grows; the API service keeps it in PostgreSQL and
//! copies it to Redis, from where gateways learn it.

use std::collections::{HashMap, HashSet};

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::ids::PersonId;
use crate::token::Principal;

/// Longest `jti` that can be revoked, in bytes.
pub const MAX_JTI_BYTES: usize = 256;

/// One revocation. Its JSON is a field of [`crate::channel::REVOKED`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Revocation {
    /// One token.
    Token {
        /// Its `jti`.
        jti: String,
    },
    /// All tokens of a subject or of a person (`fhirUser`), whatever its role, that were issued before a moment. A token
    /// without `iat` counts as issued before any.
    Subject {
        /// Their `sub`, or the identifier in their `fhirUser`.
        sub: PersonId,
        /// The moment, in whole seconds as `iat` is.
        issued_before: i64,
    },
}

#[derive(Default)]
struct Known {
    tokens: HashSet<String>,
    subjects: HashMap<PersonId, i64>,
}

/// What this process knows to be revoked.
pub struct Revocations {
    known: RwLock<Known>,
    changes: watch::Sender<u64>,
}

impl Default for Revocations {
    fn default() -> Self {
        Self { known: RwLock::default(), changes: watch::Sender::new(0) }
    }
}

impl Revocations {
    /// Learns revocations; those that it knows are no news. Returns whether there was any.
    pub fn add(&self, revocations: impl IntoIterator<Item = Revocation>) -> bool {
        let mut known = self.known.write();
        let mut news = false;
        for revocation in revocations {
            news |= match revocation {
                Revocation::Token { jti } => known.tokens.insert(jti),
                Revocation::Subject { sub, issued_before } => {
                    let before = known.subjects.entry(sub).or_insert(i64::MIN);
                    let later = issued_before > *before;
                    *before = issued_before.max(*before);
                    later
                }
            };
        }
        drop(known);
        if news {
            self.changes.send_modify(|version| *version += 1);
        }
        news
    }

    /// Whether a token is revoked.
    #[must_use]
    pub fn covers(&self, principal: &Principal) -> bool {
        let known = self.known.read();
        let token = principal.jti.as_ref().is_some_and(|jti| known.tokens.contains(jti));
        let is_over = |id: &PersonId| {
            let before = known.subjects.get(id);
            before.is_some_and(|before| principal.issued_at.is_none_or(|issued_at| issued_at < *before))
        };
        // A `fhirUser` and the `sub` of its token can be two names for one person: each will do.
        token || is_over(&principal.subject) || principal.person().is_some_and(|person| is_over(&person.id))
    }

    /// Hears of every later change: whoever holds something open for a token looks again.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// Seconds since 1970, as `iat` counts them, of a moment; one that lies within a second counts as the next, so that
/// "before" leaves nothing out.
#[must_use]
pub fn whole_seconds(at: OffsetDateTime) -> i64 {
    at.unix_timestamp() + i64::from(at.nanosecond() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Actor;

    fn principal(jti: Option<&str>, sub: &str, issued_at: Option<i64>) -> Principal {
        Principal {
            actor: Actor::Person(crate::participant::Participant::user(sub.parse().unwrap())),
            subject: sub.parse().unwrap(),
            locations: vec![],
            expires_at: OffsetDateTime::UNIX_EPOCH,
            issued_at,
            jti: jti.map(str::to_owned),
            key: crate::token::KeyId::SECRET,
        }
    }

    #[test]
    fn a_token_is_revoked_by_its_jti_alone() {
        let revocations = Revocations::default();
        assert!(revocations.add([Revocation::Token { jti: "t1".into() }]));
        assert!(!revocations.add([Revocation::Token { jti: "t1".into() }]), "no news");
        assert!(revocations.covers(&principal(Some("t1"), "a", None)));
        assert!(!revocations.covers(&principal(Some("t2"), "a", None)));
        assert!(!revocations.covers(&principal(None, "t1", None)));
    }

    #[test]
    fn a_subjects_tokens_are_revoked_up_to_a_moment_that_never_moves_back() {
        let revocations = Revocations::default();
        let before = |issued_before| [Revocation::Subject { sub: "a".parse().unwrap(), issued_before }];
        assert!(revocations.add(before(100)));
        assert!(!revocations.add(before(50)));
        assert!(revocations.covers(&principal(None, "a", Some(99))));
        assert!(revocations.covers(&principal(None, "a", None)));
        assert!(!revocations.covers(&principal(None, "a", Some(100))));
        assert!(!revocations.covers(&principal(None, "b", Some(1))));
    }

    #[test]
    fn a_person_with_two_names_is_revoked_by_either() {
        for name in ["account-7", "doc7"] {
            let revocations = Revocations::default();
            let mut principal = principal(None, "account-7", Some(99));
            principal.actor = Actor::Person(crate::participant::Participant::user("doc7".parse().unwrap()));
            assert!(!revocations.covers(&principal));
            revocations.add([Revocation::Subject { sub: name.parse().unwrap(), issued_before: 100 }]);
            assert!(revocations.covers(&principal), "{name}");
            principal.issued_at = Some(100);
            assert!(!revocations.covers(&principal), "{name}");
        }
    }

    #[test]
    fn whoever_waits_hears_of_news_only() {
        let revocations = Revocations::default();
        let mut changes = revocations.changes();
        revocations.add([]);
        assert!(!changes.has_changed().unwrap());
        revocations.add([Revocation::Token { jti: "t1".into() }]);
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        revocations.add([Revocation::Token { jti: "t1".into() }]);
        assert!(!changes.has_changed().unwrap());
    }

    #[test]
    fn both_kinds_are_written_and_read_back() {
        for revocation in [
            Revocation::Token { jti: "t1".into() },
            Revocation::Subject { sub: "doc123".parse().unwrap(), issued_before: 5 },
        ] {
            let json = serde_json::to_string(&revocation).unwrap();
            assert_eq!(serde_json::from_str::<Revocation>(&json).unwrap(), revocation);
        }
    }

    #[test]
    fn a_moment_within_a_second_counts_as_the_next() {
        let at = OffsetDateTime::from_unix_timestamp_nanos(5_000_000_001).unwrap();
        assert_eq!((whole_seconds(at), whole_seconds(OffsetDateTime::UNIX_EPOCH)), (6, 0));
    }
}
