//! JWT → [`Principal`], and what a principal may do.
//!
//! - `verifier`: chooses the key, checks signature, times and revocation
//! - `jwk`: the public keys of an issuer
//! - `jwks_fetcher`: file or URL of the issuer's keys
//! - `key_set_refresh`: the keys in use, refreshed in the background
//! - `claims`: parses the claims
//! - `principal`: the authenticated actor, and what it may do
//! - `error`: why a token is rejected; never says what the key is
//! - `issue`: signs tokens, with the shared secret only
//! - [`settings`]: the settings of both services

pub mod cache;
pub(crate) mod claims;
mod error;
mod issue;
mod jwk;
mod jwks_fetcher;
mod key_set_refresh;
mod principal;
pub mod settings;
#[cfg(test)]
pub(crate) mod testing;
mod verifier;

pub use error::TokenError;
pub use issue::{Role, issue};
pub use jwk::{KeySet, KeySetError, VerificationKeyId};
pub use jwks_fetcher::{Jwks, JwksError, JwksFile, JwksUrl};
pub use key_set_refresh::{KeySetCache, NoVerificationKeysError};
pub use principal::{Actor, AuthorizationError, Principal};
pub use verifier::{MAX_TOKEN_BYTES, Verifier};

use crate::kit::env::Secret;

/// Which tokens are good.
#[derive(Debug, Clone)]
pub struct TokenConfig {
    /// Key of HS256, if that is accepted.
    pub secret: Option<Secret>,
    /// Where the keys of the other algorithms come from, if any is accepted.
    pub jwks: Option<Jwks>,
    /// The required `iss`, if any.
    pub issuer: Option<String>,
    /// The required `aud`, if any.
    pub audience: Option<String>,
    /// How long a token may live from its `iat` to its `exp`, in seconds: for so long a revocation must be remembered.
    pub max_lifetime: i64,
}

impl Default for TokenConfig {
    fn default() -> Self {
        Self { secret: None, jwks: None, issuer: None, audience: None, max_lifetime: DEFAULT_MAX_LIFETIME_SECONDS }
    }
}

/// Four hundred days: a year, and time to renew.
pub const DEFAULT_MAX_LIFETIME_SECONDS: i64 = 400 * 86_400;

/// The token of an `Authorization` header (RFC 6750, section 2.1; the scheme's case does not matter).
///
/// # Errors
/// [`TokenError::Missing`] for another scheme or none.
pub fn bearer(header: Option<&str>) -> Result<&str, TokenError> {
    let (scheme, token) = header.and_then(|value| value.trim().split_once(' ')).ok_or(TokenError::Missing)?;
    match scheme.eq_ignore_ascii_case("bearer") {
        true => Ok(token.trim_start()),
        false => Err(TokenError::Missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_token_is_read_from_header() {
        assert_eq!(bearer(Some("Bearer abc")), Ok("abc"));
        assert_eq!(bearer(Some("bearer  abc")), Ok("abc"));
        for header in [None, Some(""), Some("Bearer"), Some("Basic abc")] {
            assert_eq!(bearer(header), Err(TokenError::Missing));
        }
    }
}
