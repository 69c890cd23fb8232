//! Verifies tokens: which key, whether it signed this, and whether what it signed is good now.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation, decode_header};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::error::TokenError;
use super::jwk::VerificationKeyId;
use super::key_set_refresh::KeySetCache;
use super::principal::Principal;
use super::{TokenConfig, claims};
use crate::contract::revocation::RevocationSet;
use crate::kit::env::Secret;

/// Longest token, in bytes. Longer ones are refused unread.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// The algorithms that a token may use. `none` is not among them. Neither is any algorithm for which a configured key could be
/// misused.
const ALGORITHMS: [Algorithm; 10] = [
    Algorithm::HS256,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Verifies tokens.
pub struct Verifier {
    keys: Arc<KeySetCache>,
    /// One for each algorithm, which accepts no other.
    validations: Vec<Validation>,
    issuer: Option<String>,
    audience: Option<String>,
    /// How long a token may live, in seconds.
    max_lifetime: i64,
    revocations: Arc<RevocationSet>,
}

impl Verifier {
    /// A verifier of these rules, with these keys.
    #[must_use]
    pub fn new(rules: &TokenConfig, keys: Arc<KeySetCache>) -> Self {
        let validations = ALGORITHMS.map(validation).to_vec();
        let (issuer, audience) = (rules.issuer.clone(), rules.audience.clone());
        Self { keys, validations, issuer, audience, max_lifetime: rules.max_lifetime, revocations: Arc::default() }
    }

    /// A verifier of HS256 tokens of any issuer.
    #[must_use]
    pub fn from_secret(secret: &Secret) -> Self {
        let keys = KeySetCache::new(Some(secret), Default::default());
        Self::new(&TokenConfig::default(), Arc::new(keys))
    }

    /// The same, refusing what is revoked.
    #[must_use]
    pub fn with_revocations(self, revocations: Arc<RevocationSet>) -> Self {
        Self { revocations, ..self }
    }

    /// The keys that count.
    #[must_use]
    pub fn keys(&self) -> &Arc<KeySetCache> {
        &self.keys
    }

    /// Verifies a token at this moment.
    ///
    /// # Errors
    /// [`TokenError`], for the bearer to read. After [`TokenError::UnknownKey`] see [`KeySetCache::refresh_now`].
    pub fn verify(&self, token: &str) -> Result<Principal, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed);
        }
        let header = decode_header(token).map_err(|error| TokenError::from(error.into_kind()))?;
        if header.crit.is_some() {
            return Err(TokenError::UnsupportedCrit);
        }
        let (claims, key) = match header.alg {
            Algorithm::HS256 => {
                let secret = self.keys.secret.as_ref().ok_or(TokenError::Algorithm)?;
                (self.decode(token, header.alg, secret)?, VerificationKeyId::SECRET)
            }
            algorithm => {
                let set = self.keys.set();
                let key = set.find(algorithm, header.kid.as_deref())?;
                (self.decode(token, key.algorithm, &key.key)?, key.id)
            }
        };
        claims::check_issuer_and_audience(&claims, self.issuer.as_deref(), self.audience.as_deref())?;
        let principal = claims::parse(&claims, key, OffsetDateTime::now_utc().unix_timestamp(), self.max_lifetime)?;
        self.check_not_revoked(&principal)?;
        Ok(principal)
    }

    fn decode(
        &self,
        token: &str,
        algorithm: Algorithm,
        key: &jsonwebtoken::DecodingKey,
    ) -> Result<Map<String, Value>, TokenError> {
        let validation = self.validations.iter().find(|validation| validation.algorithms == [algorithm]);
        let validation = validation.ok_or(TokenError::Algorithm)?;
        let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, key, validation);
        let decoded = decoded.map_err(|error| match error.into_kind() {
            // The signature was good; the library cannot read a time or a name that is an array or an object.
            ErrorKind::Json(_) => wrong_type(token).unwrap_or(TokenError::Malformed),
            kind => TokenError::from(kind),
        });
        Ok(decoded?.claims)
    }

    /// Whether a token that was verified before has neither ended, nor been revoked, nor lost its key since.
    ///
    /// # Errors
    /// [`TokenError`], for the bearer to read.
    pub fn recheck(&self, principal: &Principal, now: OffsetDateTime) -> Result<(), TokenError> {
        if principal.expires_at <= now {
            return Err(TokenError::Expired);
        }
        if !self.keys.contains(principal.key) {
            return Err(TokenError::UnknownKey);
        }
        self.check_not_revoked(principal)
    }

    fn check_not_revoked(&self, principal: &Principal) -> Result<(), TokenError> {
        if self.revocations.is_revoked(principal.identity()) { Err(TokenError::Revoked) } else { Ok(()) }
    }
}

/// The claim that is an array or an object, and must be a time or a name.
fn wrong_type(token: &str) -> Option<TokenError> {
    const SCALARS: [(&str, &str); 3] =
        [("exp", "is not a time"), ("nbf", "is not a time"), ("sub", "is not a valid identifier")];
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Map<String, Value> = serde_json::from_slice(&payload).ok()?;
    let is_wrong = |name: &str| claims.get(name).is_some_and(|value| value.is_array() || value.is_object());
    let (name, why) = SCALARS.into_iter().find(|(name, _)| is_wrong(name))?;
    Some(TokenError::InvalidClaim(name, why))
}

/// Of the signature alone. The library calls a claim of a wrong type missing, so `claims` reads all of them.
fn validation(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.set_required_spec_claims::<&str>(&[]);
    validation
}

#[cfg(test)]
#[path = "tests/verifier.rs"]
mod tests;
