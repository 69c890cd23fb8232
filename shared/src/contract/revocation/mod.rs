//! Tokens that are refused before they expire. The API service keeps them in PostgreSQL and copies them to Redis, from
//! where gateways learn them ([`crate::contract::redis::revocations`]).
//!
//! A revocation is kept until the last token that it names has ended by itself, and then it is forgotten. It takes a bounded
//! amount of memory, however long the `jti` is: of that only a hash is kept.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use parking_lot::RwLock;
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::contract::ids::ParticipantId;
use crate::contract::token::Principal;

/// Longest `jti` that a token may have, in bytes, so that it can be revoked by name.
pub const MAX_JTI_BYTES: usize = 256;

/// How much longer than necessary a revocation is kept, in seconds: clocks differ.
const EXPIRY_GRACE_SECONDS: i64 = 120;

/// Expired revocations that are removed under one lock, so that checks of tokens wait only briefly.
const REMOVAL_BATCH: usize = 1_000;

/// Which tokens are to be revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocation {
    /// One token.
    Token {
        /// Its `jti`.
        jti: String,
        /// Its `exp`, in seconds since 1970, if the administrator knows it.
        expires_at: Option<i64>,
    },
    /// All tokens of a subject or of a participant (`fhirUser`), of any role, issued before a given time. A token without `iat`
    /// counts as issued before any time.
    Subject {
        /// Their `sub`, or the identifier in their `fhirUser`.
        sub: ParticipantId,
        /// The moment, in whole seconds as `iat` is.
        issued_before: i64,
    },
    /// All tokens issued before a given time, and all without `iat`.
    Everyone {
        /// The moment, in whole seconds as `iat` is.
        issued_before: i64,
    },
}

impl Revocation {
    /// When the last token that is named has ended, in seconds since 1970: no token lives longer than `max_lifetime` seconds.
    #[must_use]
    pub fn ends_at(&self, now: i64, max_lifetime: i64) -> i64 {
        let last = match self {
            Self::Token { expires_at: Some(expires_at), .. } => *expires_at,
            Self::Token { expires_at: None, .. } => now.saturating_add(max_lifetime),
            Self::Subject { issued_before, .. } | Self::Everyone { issued_before } => {
                (*issued_before).max(now).saturating_add(max_lifetime)
            }
        };
        last.saturating_add(EXPIRY_GRACE_SECONDS)
    }

    /// What is remembered of it until it ends.
    #[must_use]
    pub fn entry(&self, ends_at: i64) -> RevocationEntry {
        let target = match self {
            Self::Token { jti, .. } => Target::Token(TokenHash::new(jti)),
            Self::Subject { sub, issued_before } => Target::Subject { sub: sub.clone(), issued_before: *issued_before },
            Self::Everyone { issued_before } => Target::Everyone { issued_before: *issued_before },
        };
        RevocationEntry { target, ends_at }
    }
}

/// What is kept of a `jti`: 128 bits of its SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 16]);

impl TokenHash {
    /// The hash of a `jti`.
    #[must_use]
    pub fn new(jti: &str) -> Self {
        let mut hash = [0; 16];
        hash.copy_from_slice(&digest(&SHA256, jti.as_bytes()).as_ref()[..16]);
        Self(hash)
    }
}

/// Which tokens are revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The token with this `jti`.
    Token(TokenHash),
    /// Those of a subject: see [`Revocation::Subject`].
    Subject {
        /// Their `sub`, or the identifier in their `fhirUser`.
        sub: ParticipantId,
        /// In seconds since 1970.
        issued_before: i64,
    },
    /// All tokens: see [`Revocation::Everyone`].
    Everyone {
        /// In seconds since 1970.
        issued_before: i64,
    },
}

/// A revocation as it is remembered, and as it stands in Redis: its text is one member of
/// [`crate::contract::redis::keys::REVOCATIONS_KEY`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationEntry {
    /// Which tokens.
    pub target: Target,
    /// When all of them have ended by themselves, in seconds since 1970.
    pub ends_at: i64,
}

impl fmt::Display for RevocationEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Token(TokenHash(hash)) => write!(f, "t {:032x}", u128::from_be_bytes(*hash)),
            Target::Subject { sub, issued_before } => write!(f, "s {sub} {issued_before}"),
            Target::Everyone { issued_before } => write!(f, "e {issued_before}"),
        }?;
        write!(f, " {}", self.ends_at)
    }
}

/// Text that is no revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no revocation")]
pub struct InvalidRevocation;

impl FromStr for RevocationEntry {
    type Err = InvalidRevocation;

    fn from_str(text: &str) -> Result<Self, InvalidRevocation> {
        let number = |text: &str| text.parse::<i64>().map_err(|_| InvalidRevocation);
        let mut parts = text.split(' ');
        let mut part = || parts.next().ok_or(InvalidRevocation);
        let target = match part()? {
            "t" => {
                let text = part()?;
                if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return Err(InvalidRevocation);
                }
                let hash = u128::from_str_radix(text, 16).map_err(|_| InvalidRevocation)?.to_be_bytes();
                Target::Token(TokenHash(hash))
            }
            "s" => Target::Subject {
                sub: part()?.parse().map_err(|_| InvalidRevocation)?,
                issued_before: number(part()?)?,
            },
            "e" => Target::Everyone { issued_before: number(part()?)? },
            _ => return Err(InvalidRevocation),
        };
        let ends_at = number(part()?)?;
        match parts.next() {
            None => Ok(Self { target, ends_at }),
            Some(_) => Err(InvalidRevocation),
        }
    }
}

/// Up to when tokens are revoked, and until when that is remembered.
#[derive(Debug, Clone, Copy)]
struct Bound {
    issued_before: i64,
    ends_at: i64,
}

impl Bound {
    /// Widens it so that it covers what both cover. Returns whether more tokens are revoked than before.
    fn widen(&mut self, issued_before: i64, ends_at: i64) -> bool {
        let is_news = issued_before > self.issued_before;
        self.issued_before = self.issued_before.max(issued_before);
        self.ends_at = self.ends_at.max(ends_at);
        is_news
    }

    fn covers(&self, issued_at: Option<i64>) -> bool {
        issued_at.is_none_or(|issued_at| issued_at < self.issued_before)
    }
}

/// Covers no token, not even those without `iat`: it is never in a set.
const EMPTY_BOUND: Bound = Bound { issued_before: i64::MIN, ends_at: i64::MIN };

#[derive(Default)]
struct RevocationIndex {
    /// When each of them ends. 25 bytes a place, of which 44 to 88 % are taken.
    tokens: HashMap<TokenHash, i64>,
    subjects: HashMap<ParticipantId, Bound>,
    everyone: Option<Bound>,
}

impl RevocationIndex {
    fn add(&mut self, RevocationEntry { target, ends_at }: RevocationEntry) -> bool {
        match target {
            Target::Token(hash) => {
                let known = self.tokens.insert(hash, ends_at);
                if let Some(known) = known.filter(|known| *known > ends_at) {
                    self.tokens.insert(hash, known);
                }
                known.is_none()
            }
            Target::Subject { sub, issued_before } => {
                self.subjects.entry(sub).or_insert(EMPTY_BOUND).widen(issued_before, ends_at)
            }
            Target::Everyone { issued_before } => {
                self.everyone.get_or_insert(EMPTY_BOUND).widen(issued_before, ends_at)
            }
        }
    }
}

/// What this process knows to be revoked.
pub struct RevocationSet {
    known: RwLock<RevocationIndex>,
    changes: watch::Sender<u64>,
}

impl Default for RevocationSet {
    fn default() -> Self {
        Self { known: RwLock::default(), changes: watch::Sender::new(0) }
    }
}

impl RevocationSet {
    /// Learns revocations; those that it knows are no news. Returns whether there was any.
    pub fn add(&self, entries: impl IntoIterator<Item = RevocationEntry>) -> bool {
        let mut known = self.known.write();
        let mut news = false;
        for entry in entries {
            news |= known.add(entry);
        }
        drop(known);
        if news {
            self.changes.send_modify(|version| *version += 1);
        }
        news
    }

    /// Whether a token is revoked.
    #[must_use]
    pub fn is_revoked(&self, principal: &Principal) -> bool {
        let known = self.known.read();
        if known.everyone.is_some_and(|bound| bound.covers(principal.issued_at)) {
            return true;
        }
        let is_known = |jti: &String| known.tokens.contains_key(&TokenHash::new(jti));
        let token = !known.tokens.is_empty() && principal.jti.as_ref().is_some_and(is_known);
        let is_over =
            |id: &ParticipantId| known.subjects.get(id).is_some_and(|bound| bound.covers(principal.issued_at));
        // A `fhirUser` and the `sub` of its token can be two names for one person: each will do.
        token || is_over(&principal.subject) || principal.participant().is_some_and(|person| is_over(&person.id))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let known = self.known.read();
        known.tokens.len() + known.subjects.len() + usize::from(known.everyone.is_some())
    }

    /// Whether nothing is revoked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them.
    #[must_use]
    pub fn entries(&self) -> Vec<RevocationEntry> {
        self.select(|_| true)
    }

    fn select(&self, is_wanted: impl Fn(i64) -> bool) -> Vec<RevocationEntry> {
        let known = self.known.read();
        let entry = |target, ends_at| RevocationEntry { target, ends_at };
        let tokens = known.tokens.iter().filter(|(_, ends_at)| is_wanted(**ends_at));
        let tokens = tokens.map(|(hash, ends_at)| entry(Target::Token(*hash), *ends_at));
        let subjects = known.subjects.iter().filter(|(_, bound)| is_wanted(bound.ends_at)).map(|(sub, bound)| {
            entry(Target::Subject { sub: sub.clone(), issued_before: bound.issued_before }, bound.ends_at)
        });
        let everyone = known.everyone.iter().filter(|bound| is_wanted(bound.ends_at));
        let everyone = everyone.map(|b| entry(Target::Everyone { issued_before: b.issued_before }, b.ends_at));
        tokens.chain(subjects).chain(everyone).collect()
    }

    /// Forgets revocations whose tokens have all ended by `now`, in seconds since 1970. Returns them.
    pub fn remove_expired(&self, now: i64) -> Vec<RevocationEntry> {
        let ended = self.select(|ends_at| ends_at <= now);
        for page in ended.chunks(REMOVAL_BATCH) {
            let mut known = self.known.write();
            for entry in page {
                // One that was extended meanwhile stays.
                match &entry.target {
                    Target::Token(hash) => {
                        if known.tokens.get(hash).is_some_and(|ends_at| *ends_at <= now) {
                            known.tokens.remove(hash);
                        }
                    }
                    Target::Subject { sub, .. } => {
                        if known.subjects.get(sub).is_some_and(|bound| bound.ends_at <= now) {
                            known.subjects.remove(sub);
                        }
                    }
                    Target::Everyone { .. } => known.everyone = known.everyone.filter(|bound| bound.ends_at > now),
                }
            }
        }
        if !ended.is_empty() {
            let mut known = self.known.write();
            if known.tokens.capacity() > 4 * known.tokens.len() {
                known.tokens.shrink_to_fit();
            }
        }
        ended
    }

    /// Changes with every new revocation. An open socket then checks its token again.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// A time in whole seconds since 1970, as `iat` counts them, rounded up, so that "before" leaves nothing out.
#[must_use]
pub fn whole_seconds(at: OffsetDateTime) -> i64 {
    at.unix_timestamp() + i64::from(at.nanosecond() > 0)
}

#[cfg(test)]
mod tests;
