//! The key of the audit trail. Only the API service has it: neither the database nor the gateways can make a row.

use std::fmt;

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use shared::env::Secret;

/// Shortest key, in bytes: as long as the hash.
pub const MIN_KEY_BYTES: usize = 32;
/// Bytes of a hash.
pub const MAC_BYTES: usize = 32;

/// A keyed hash (HMAC-SHA256).
pub type Mac = [u8; MAC_BYTES];

/// What separates this use of a secret from any other (RFC 5869, section 3.2).
const DERIVED: &[u8] = b"ehr-chat audit key v1";
const KEY_ID: &[u8] = b"ehr-chat audit key id";

/// A key. Clones share it; it never shows itself.
#[derive(Clone)]
pub struct AuditKey {
    key: hmac::Key,
    id: String,
}

impl AuditKey {
    /// A key of its own.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        Self::of_bytes(secret.expose().as_bytes())
    }

    /// A key made of the secret that signs tokens, by HKDF, for whoever has set none.
    ///
    /// # Errors
    /// When the crypto backend fails.
    pub fn derived(jwt_secret: &Secret) -> Result<Self, aws_lc_rs::error::Unspecified> {
        let mut bytes = [0; MAC_BYTES];
        Salt::new(HKDF_SHA256, &[])
            .extract(jwt_secret.expose().as_bytes())
            .expand(&[DERIVED], Length)?
            .fill(&mut bytes)?;
        Ok(Self::of_bytes(&bytes))
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        let key = hmac::Key::new(HMAC_SHA256, bytes);
        let id = hmac::sign(&key, KEY_ID).as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self { key, id }
    }

    /// Names the key; the key cannot be told from it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The keyed hash of something.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> Mac {
        let mut mac = [0; MAC_BYTES];
        mac.copy_from_slice(hmac::sign(&self.key, bytes).as_ref());
        mac
    }
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuditKey({})", self.id)
    }
}

struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        MAC_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        text.parse().unwrap_or_else(|never| match never {})
    }

    #[test]
    fn a_key_has_a_name_that_is_its_own_and_shows_nothing_else() {
        let [one, two] = ["x", "y"].map(|letter| AuditKey::new(&secret(&letter.repeat(32))));
        assert_ne!(one.id(), two.id());
        assert_eq!(one.id(), AuditKey::new(&secret(&"x".repeat(32))).id());
        assert_eq!(format!("{one:?}"), format!("AuditKey({})", one.id()));
        assert_ne!(one.sign(b"a"), two.sign(b"a"));
    }

    #[test]
    fn a_derived_key_is_always_the_same_and_never_the_secret_itself() {
        let jwt = secret(&"x".repeat(32));
        let derived = AuditKey::derived(&jwt).unwrap();
        assert_eq!(derived.id(), AuditKey::derived(&jwt).unwrap().id());
        assert_ne!(derived.id(), AuditKey::new(&jwt).id());
    }
}
