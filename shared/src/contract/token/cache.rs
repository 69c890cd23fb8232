//! Principals of tokens that were verified before. A client sends the same token with every request, so its signature is checked
//! once. Expiry, revocation and the presence of its key are checked with every request.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use quick_cache::sync::Cache;
use time::OffsetDateTime;

use crate::contract::token::{KeySetCache, MAX_TOKEN_BYTES, Principal, TokenError, Verifier};

/// Tokens that the cache holds at most. A token that left it is verified again.
const CACHE_CAPACITY: usize = 40_000;

/// SHA-256 of a token. The token itself is not kept.
type Digest = [u8; 32];

/// A verifier with a bounded cache.
pub struct TokenCache {
    verifier: Verifier,
    principals: Cache<Digest, Arc<Principal>>,
}

impl TokenCache {
    /// A cache without tokens.
    #[must_use]
    pub fn new(verifier: Verifier) -> Self {
        Self::with_capacity(verifier, CACHE_CAPACITY)
    }

    fn with_capacity(verifier: Verifier, capacity: usize) -> Self {
        Self { verifier, principals: Cache::new(capacity) }
    }

    /// The keys that count.
    #[must_use]
    pub fn keys(&self) -> &KeySetCache {
        self.verifier.keys()
    }

    /// Verifies a token. If its key is unknown, waits until the issuer's keys have been read again, so that a key rotation
    /// fails no request.
    ///
    /// # Errors
    /// [`TokenError`], for the bearer to read.
    pub async fn check(&self, token: &str) -> Result<Arc<Principal>, TokenError> {
        match self.verify(token) {
            Err(TokenError::UnknownKey) if self.keys().refresh_now().await => self.verify(token),
            verified => verified,
        }
    }

    /// Verifies a token at this moment.
    ///
    /// # Errors
    /// [`TokenError`], for the bearer to read.
    pub fn verify(&self, token: &str) -> Result<Arc<Principal>, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed);
        }
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        if let Some(principal) = self.principals.get(&key) {
            if let Err(refused) = self.verifier.recheck(&principal, OffsetDateTime::now_utc()) {
                self.principals.remove(&key);
                return Err(refused);
            }
            return Ok(principal);
        }
        let principal = Arc::new(self.verifier.verify(token)?);
        self.principals.insert(key, principal.clone());
        Ok(principal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::participant::ParticipantKind;
    use crate::contract::revocation::{Revocation, RevocationSet};
    use crate::contract::token::{Role, issue};
    use std::time::Duration;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn token(lifetime: Duration) -> String {
        let location = "loc1".parse().unwrap();
        issue(
            &SECRET.parse().unwrap(),
            &"doc123".parse().unwrap(),
            Role::Participant(ParticipantKind::User),
            &[location],
            lifetime,
        )
        .unwrap()
    }

    fn tokens(revocations: &Arc<RevocationSet>) -> TokenCache {
        TokenCache::new(Verifier::from_secret(&SECRET.parse().unwrap()).with_revocations(revocations.clone()))
    }

    #[test]
    fn cached_token_is_not_verified_again() {
        let (tokens, token) = (tokens(&Arc::default()), token(Duration::from_secs(60)));
        let first = tokens.verify(&token).unwrap();
        assert!(Arc::ptr_eq(&first, &tokens.verify(&token).unwrap()));
    }

    #[test]
    fn cache_keeps_used_tokens_and_drops_the_rest() {
        let verifier = Verifier::from_secret(&SECRET.parse().unwrap());
        let tokens = TokenCache::with_capacity(verifier, 8);
        let used = token(Duration::from_secs(60));
        let first = tokens.verify(&used).unwrap();
        // Each token is another one, by its `jti`.
        let others: Vec<_> = (0..100).map(|_| token(Duration::from_secs(60))).collect();
        for other in &others {
            tokens.verify(other).unwrap();
            assert!(Arc::ptr_eq(&first, &tokens.verify(&used).unwrap()), "used again and again");
            assert!(tokens.principals.len() <= 8);
        }
        let is_cached = |token: &String| {
            let digest = digest(&SHA256, token.as_bytes());
            tokens.principals.contains_key(digest.as_ref())
        };
        assert!(is_cached(&others[99]) && !is_cached(&others[50]));
    }

    #[test]
    fn altered_token_misses_the_cache() {
        let (tokens, token) = (tokens(&Arc::default()), token(Duration::from_secs(60)));
        tokens.verify(&token).unwrap();
        for place in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[place] = if forged[place] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            // The last character of a signature has bits that mean nothing; then it is the same signature.
            if let Ok(principal) = tokens.verify(&forged) {
                assert_eq!(place, token.len() - 1, "{principal:?}");
            }
        }
    }

    #[test]
    fn cached_token_expires_and_can_be_revoked() {
        let revocations: Arc<RevocationSet> = Arc::default();
        let (tokens, token) = (tokens(&revocations), token(Duration::from_secs(60)));
        let principal = tokens.verify(&token).unwrap();
        let end = principal.expires_at;
        assert_eq!(tokens.verifier.recheck(&principal, end), Err(TokenError::Expired));
        assert!(tokens.verifier.recheck(&principal, end - Duration::from_millis(1)).is_ok());
        let jti = principal.jti.clone().unwrap();
        revocations.add([Revocation::Token { jti, expires_at: None }.entry(i64::MAX)]);
        assert_eq!(tokens.verify(&token), Err(TokenError::Revoked));
        assert_eq!(tokens.verify(&token), Err(TokenError::Revoked), "also when it is verified again");
    }
}
