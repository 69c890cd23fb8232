//! Tickets: what stands for a token for half a minute, once. For WebSocket clients that can set neither a header nor a
//! subprotocol: a ticket may enter a log with its URL, since it is worth nothing by then.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use time::OffsetDateTime;

use crate::contract::token::Principal;
use crate::kit::crypto::seal::{KEY_BYTES, Key, SealError};
use crate::kit::env::Secret;

/// How long a ticket is good for.
pub const TICKET_LIFETIME: Duration = Duration::from_secs(30);

/// 256 random bits. Never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket(String);

impl Ticket {
    /// A random ticket of 256 bits.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn new() -> Result<Self, Unspecified> {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes)?;
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// The text, for its bearer, and for [`crate::contract::redis::keys::ticket_key`].
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Text that is no ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a ticket")]
pub struct InvalidTicket;

impl FromStr for Ticket {
    type Err = InvalidTicket;

    fn from_str(text: &str) -> Result<Self, InvalidTicket> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidTicket)?;
        if bytes.len() == 32 { Ok(Self(text.to_owned())) } else { Err(InvalidTicket) }
    }
}

/// Keeps the key that a ticket gives apart from its name in Redis, which is a hash of it as well.
const HKDF_INFO: &[u8] = b"ehr-chat the token of a ticket";

/// Seals a token for Redis, with a key that only the ticket gives. A reader of Redis learns nothing. A writer cannot make a
/// ticket: the opened text is a token, and is verified like any other.
///
/// # Errors
/// [`SealError::Cipher`]
pub fn seal_token(ticket: &Ticket, token: &str) -> Result<Vec<u8>, SealError> {
    let mut kept = token.as_bytes().to_vec();
    key(ticket)?.seal(HKDF_INFO, &mut kept, 0)?;
    Ok(kept)
}

/// The token that was kept for a ticket.
///
/// # Errors
/// [`SealError`], when it was not kept for this one.
pub fn open_token(ticket: &Ticket, mut sealed: Vec<u8>) -> Result<Secret, SealError> {
    key(ticket)?.open(HKDF_INFO, &mut sealed, 0)?;
    let token = String::from_utf8(sealed).map_err(|_| SealError::AuthenticationFailed)?;
    token.parse().map_err(|_| SealError::AuthenticationFailed)
}

fn key(ticket: &Ticket) -> Result<Key, SealError> {
    let mut key = [0; KEY_BYTES];
    let prk = Salt::new(HKDF_SHA256, &[]).extract(ticket.0.as_bytes());
    // As many bytes as the hash has, which is what a key needs.
    prk.expand(&[HKDF_INFO], HKDF_SHA256).and_then(|okm| okm.fill(&mut key)).map_err(|_| SealError::Cipher)?;
    Key::new(&key)
}

/// How long a ticket for this token is good for, in whole seconds: not longer than the token.
#[must_use]
pub fn lifetime_seconds(principal: &Principal, now: OffsetDateTime) -> u64 {
    let left = (principal.expires_at - now).whole_seconds();
    TICKET_LIFETIME.as_secs().min(u64::try_from(left).unwrap_or(0).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::redis::keys;
    use crate::contract::token::Verifier;
    use crate::contract::token::testing;
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::json;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn principal(life: i64) -> (String, Principal) {
        let mut claims = testing::claims();
        claims["exp"] = json!(OffsetDateTime::now_utc().unix_timestamp() + life);
        claims["jti"] = json!("t1");
        let token =
            jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap();
        let principal = Verifier::from_secret(&SECRET.parse().unwrap()).verify(&token).unwrap();
        (token, principal)
    }

    #[test]
    fn tickets_are_unique_and_redacted() {
        let (one, other) = (Ticket::new().unwrap(), Ticket::new().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.expose().len(), 43);
        assert_eq!(one.expose().parse::<Ticket>().unwrap(), one);
        assert!(!format!("{one:?}").contains(one.expose()));
        let key = keys::ticket_key(&one);
        let hash = key.split_once(':').unwrap().1;
        assert!(hash.len() == 64 && !key.contains(one.expose()), "{key}");
        for text in ["", "x", &"A".repeat(42), &"A".repeat(44), &format!("{}=", one.expose()), "../../etc/passwd"] {
            assert!(text.parse::<Ticket>().is_err(), "{text}");
        }
    }

    #[test]
    fn sealed_token_opens_only_with_its_ticket() {
        let (token, _) = principal(60);
        let (ticket, other) = (Ticket::new().unwrap(), Ticket::new().unwrap());
        let sealed = seal_token(&ticket, &token).unwrap();
        assert_eq!(open_token(&ticket, sealed.clone()).unwrap().expose(), token);
        let rendered = String::from_utf8_lossy(&sealed);
        assert!(token.split('.').all(|part| !rendered.contains(part)), "{rendered}");
        assert_eq!(open_token(&other, sealed.clone()).unwrap_err(), SealError::AuthenticationFailed);
        for place in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[place] ^= 1;
            assert_eq!(open_token(&ticket, altered).unwrap_err(), SealError::AuthenticationFailed, "{place}");
        }
        // Nor does any text that a writer without the ticket could store there.
        for forged in [Vec::new(), b"{}".to_vec(), token.into_bytes()] {
            assert_eq!(open_token(&ticket, forged).unwrap_err(), SealError::AuthenticationFailed);
        }
    }

    #[test]
    fn ticket_does_not_outlive_its_token() {
        let now = OffsetDateTime::now_utc();
        assert_eq!(lifetime_seconds(&principal(3600).1, now), 30);
        assert!((8..=10).contains(&lifetime_seconds(&principal(10).1, now)));
        assert_eq!(lifetime_seconds(&principal(10).1, now + Duration::from_secs(60)), 1, "Redis takes no less");
    }
}
