//! Tokens that are refused before they expire. The API service keeps them in PostgreSQL and copies them to Redis, from
//! where gateways learn them ([`crate::contract::redis::revocations`]).
//!
//! A revocation is kept until the last token that it names has ended by itself, and then it is forgotten. It takes a bounded
//! amount of memory, however long the `jti` is: of that only a hash is kept.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use time::OffsetDateTime;

use crate::contract::ids::ParticipantId;

mod set;

pub use set::RevocationSet;

/// Longest `jti` that a token may have, in bytes, so that it can be revoked by name.
pub const MAX_JTI_BYTES: usize = 256;

/// How much longer than necessary a revocation is kept, in seconds: clocks differ.
const EXPIRY_GRACE_SECONDS: i64 = 120;

/// What revocations know a token by.
#[derive(Debug, Clone, Copy)]
pub struct TokenIdentity<'a> {
    /// Its `jti`.
    pub jti: Option<&'a str>,
    /// Its `sub`.
    pub subject: &'a ParticipantId,
    /// The participant that it names. With `fhirUser`, this and `sub` can be two names for one person.
    pub participant: Option<&'a ParticipantId>,
    /// Its `iat`, in seconds since 1970.
    pub issued_at: Option<i64>,
}

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

/// A time in whole seconds since 1970, as `iat` counts them, rounded up, so that "before" leaves nothing out.
#[must_use]
pub fn whole_seconds(at: OffsetDateTime) -> i64 {
    at.unix_timestamp() + i64::from(at.nanosecond() > 0)
}

#[cfg(test)]
mod tests;
