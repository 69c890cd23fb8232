//! Tickets: what stands for a token for half a minute, once. For WebSocket clients that can set neither a header nor a
//! subprotocol: a ticket may enter a log with its URL, since it is worth nothing by then.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::token::{KeyId, Principal, TokenError, claims};

/// How long a ticket is good for.
pub const LIFETIME: Duration = Duration::from_secs(30);

/// 256 random bits. Never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket(String);

impl Ticket {
    /// One that nobody can guess.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn new() -> Result<Self, Unspecified> {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes)?;
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// The text, for its bearer, and for [`crate::channel::ticket`].
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

/// What is kept of a token while its ticket waits: what it says of its bearer, and never the token itself.
#[derive(Serialize, Deserialize)]
struct Grant {
    claims: Map<String, Value>,
    key: String,
}

/// What to keep for a ticket.
#[must_use]
pub fn grant(principal: &Principal) -> String {
    let grant = Grant { claims: claims::write(principal), key: principal.key.to_string() };
    // A map of JSON values can always be written.
    serde_json::to_string(&grant).unwrap_or_default()
}

/// How long a ticket for this token is good for, in whole seconds: not longer than the token.
#[must_use]
pub fn lifetime(principal: &Principal, now: OffsetDateTime) -> u64 {
    let left = (principal.expires_at - now).whole_seconds();
    LIFETIME.as_secs().min(u64::try_from(left).unwrap_or(0).max(1))
}

/// Whose a ticket was, by what was kept for it.
///
/// # Errors
/// [`TokenError`], when the token is good no more.
pub fn bearer(grant: &str) -> Result<Principal, TokenError> {
    let Grant { claims, key } = serde_json::from_str(grant).map_err(|_| TokenError::Malformed)?;
    let key: KeyId = key.parse()?;
    claims::read(&claims, key, OffsetDateTime::now_utc().unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel;
    use crate::token::Verifier;
    use crate::token::testing;
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::json;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn principal(life: i64) -> (String, Principal) {
        let mut claims = testing::claims();
        claims["exp"] = json!(OffsetDateTime::now_utc().unix_timestamp() + life);
        claims["jti"] = json!("t1");
        let token =
            jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap();
        let principal = Verifier::of_secret(&SECRET.parse().unwrap()).verify(&token).unwrap();
        (token, principal)
    }

    #[test]
    fn no_two_are_alike_and_none_shows_itself() {
        let (one, other) = (Ticket::new().unwrap(), Ticket::new().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.expose().len(), 43);
        assert_eq!(one.expose().parse::<Ticket>().unwrap(), one);
        assert!(!format!("{one:?}").contains(one.expose()));
        let key = channel::ticket(&one);
        let hash = key.split_once(':').unwrap().1;
        assert!(hash.len() == 64 && !key.contains(one.expose()), "{key}");
        for text in ["", "x", &"A".repeat(42), &"A".repeat(44), &format!("{}=", one.expose()), "../../etc/passwd"] {
            assert!(text.parse::<Ticket>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_kept_names_the_bearer_and_holds_no_token() {
        let (token, principal) = principal(60);
        let kept = grant(&principal);
        assert_eq!(bearer(&kept), Ok(principal));
        assert!(token.split('.').all(|part| !kept.contains(part)), "{kept}");
        for nonsense in ["", "{}", "[]", r#"{"claims": {}, "key": ""}"#] {
            assert!(bearer(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn a_ticket_does_not_outlive_its_token() {
        let now = OffsetDateTime::now_utc();
        assert_eq!(lifetime(&principal(3600).1, now), 30);
        assert!((8..=10).contains(&lifetime(&principal(10).1, now)));
        assert_eq!(lifetime(&principal(10).1, now + Duration::from_secs(60)), 1, "Redis takes no less");
        let mut ended = grant(&principal(60).1);
        ended = ended.replace("\"exp\":", "\"exp\":1,\"was\":");
        assert_eq!(bearer(&ended), Err(TokenError::Expired));
    }
}
