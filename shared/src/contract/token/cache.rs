//! Tokens that were verified already: a client shows the same one with every request, and its signature need not be
//! computed each time. Whether it has ended, was revoked, or has lost its key is asked each time.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use parking_lot::Mutex;
use time::OffsetDateTime;

use crate::contract::token::{KeySetCache, MAX_TOKEN_BYTES, Principal, TokenError, Verifier};

/// Tokens a generation; there are two. Beyond that, the ones that were not shown for longest are verified anew.
const GENERATION: usize = 20_000;

/// The hash of a token: the token itself is nowhere kept.
type Digest = [u8; 32];

/// A verifier that remembers.
pub struct TokenCache {
    verifier: Verifier,
    generations: Mutex<Generations>,
}

#[derive(Default)]
struct Generations {
    young: HashMap<Digest, Arc<Principal>>,
    old: HashMap<Digest, Arc<Principal>>,
}

impl Generations {
    fn get(&mut self, token: &Digest) -> Option<Arc<Principal>> {
        if let Some(principal) = self.young.get(token) {
            return Some(principal.clone());
        }
        let principal = self.old.remove(token)?;
        self.insert(*token, principal.clone());
        Some(principal)
    }

    fn insert(&mut self, token: Digest, principal: Arc<Principal>) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(token, principal);
    }

    fn forget(&mut self, token: &Digest) {
        self.young.remove(token);
        self.old.remove(token);
    }
}

impl TokenCache {
    /// Has seen none yet.
    #[must_use]
    pub fn new(verifier: Verifier) -> Self {
        Self { verifier, generations: Mutex::default() }
    }

    /// The keys that count.
    #[must_use]
    pub fn keys(&self) -> &KeySetCache {
        self.verifier.keys()
    }

    /// Verifies a token; one of a key that is not known waits until the issuer's keys have been read again, so that a
    /// rotation is noticed by nobody.
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
        let known = self.generations.lock().get(&key);
        if let Some(principal) = known {
            let still = self.verifier.recheck(&principal, OffsetDateTime::now_utc());
            if let Err(refused) = still {
                self.generations.lock().forget(&key);
                return Err(refused);
            }
            return Ok(principal);
        }
        let principal = Arc::new(self.verifier.verify(token)?);
        self.generations.lock().insert(key, principal.clone());
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
    fn a_token_that_was_seen_is_not_verified_again() {
        let (tokens, token) = (tokens(&Arc::default()), token(Duration::from_secs(60)));
        let first = tokens.verify(&token).unwrap();
        assert!(Arc::ptr_eq(&first, &tokens.verify(&token).unwrap()));
    }

    #[test]
    fn a_token_that_differs_in_one_character_is_another() {
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
    fn what_was_seen_ends_and_can_be_revoked_all_the_same() {
        let revocations: Arc<RevocationSet> = Arc::default();
        let (tokens, token) = (tokens(&revocations), token(Duration::from_secs(60)));
        let principal = tokens.verify(&token).unwrap();
        let end = principal.expires_at;
        assert_eq!(tokens.verifier.recheck(&principal, end), Err(TokenError::Expired));
        assert!(tokens.verifier.recheck(&principal, end - Duration::from_millis(1)).is_ok());
        let jti = principal.jti.clone().unwrap();
        revocations.add([Revocation::Token { jti, expires_at: None }.entry(i64::MAX)]);
        assert_eq!(tokens.verify(&token), Err(TokenError::Revoked));
        assert_eq!(tokens.verify(&token), Err(TokenError::Revoked), "nor when it is verified anew");
    }

    #[test]
    fn memory_is_bounded_and_what_is_shown_often_stays() {
        let mut generations = Generations::default();
        let principal = tokens(&Arc::default()).verify(&token(Duration::from_secs(60))).unwrap();
        let digest = |number: usize| {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&number.to_le_bytes());
            digest
        };
        for number in 1..=5 * GENERATION {
            generations.insert(digest(number), principal.clone());
            if number % 1_000 == 1 {
                assert!(generations.get(&digest(1)).is_some(), "{number}");
            }
        }
        assert!(generations.young.len() + generations.old.len() <= 2 * GENERATION);
        assert!(generations.get(&digest(2)).is_none());
    }
}
