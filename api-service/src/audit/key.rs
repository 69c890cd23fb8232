//! The key of the audit trail. Only API services hold it, so neither the database nor the gateways can forge a row. In
//! development the key may be derived from `JWT_SECRET`, which gateways know.

use std::fmt;

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use shared::contract::ids::MessageId;
use shared::kit::env::Secret;

/// Minimum key length in bytes: the length of the hash.
pub const MIN_KEY_BYTES: usize = 32;
/// Bytes of a hash.
pub const MAC_BYTES: usize = 32;

/// HMAC-SHA256.
pub type Mac = [u8; MAC_BYTES];

/// Bytes of a text's hash. Half an HMAC suffices: without the key, collisions cannot be searched.
pub const TEXT_MAC_BYTES: usize = 16;

/// Separates the uses of a secret (RFC 5869, section 3.2).
const DERIVATION_INFO: &[u8] = b"ehr-chat audit key v1";
const KEY_ID_DOMAIN: &[u8] = b"ehr-chat audit key id";
const TEXT_DOMAIN: &[u8] = b"ehr-chat audit text v1";

/// A key. Clones share it; `Debug` shows only its id.
#[derive(Clone)]
pub struct AuditKey {
    key: hmac::Key,
    id: String,
}

impl AuditKey {
    /// A configured key.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        Self::from_bytes(secret.expose().as_bytes())
    }

    /// A key derived from the token secret by HKDF, for development.
    ///
    /// # Errors
    /// When the crypto backend fails.
    pub fn derived(jwt_secret: &Secret) -> Result<Self, aws_lc_rs::error::Unspecified> {
        let mut bytes = [0; MAC_BYTES];
        Salt::new(HKDF_SHA256, &[])
            .extract(jwt_secret.expose().as_bytes())
            .expand(&[DERIVATION_INFO], MacLength)?
            .fill(&mut bytes)?;
        Ok(Self::from_bytes(&bytes))
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let key = hmac::Key::new(HMAC_SHA256, bytes);
        let id = hmac::sign(&key, KEY_ID_DOMAIN).as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self { key, id }
    }

    /// Identifies the key without revealing it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The HMAC of some bytes.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> Mac {
        let mut mac = [0; MAC_BYTES];
        mac.copy_from_slice(hmac::sign(&self.key, bytes).as_ref());
        mac
    }

    /// The HMAC of a message's text, which binds the audit row to it. Without the key it can neither be forged nor be compared
    /// with guesses or with other messages.
    #[must_use]
    pub fn text_mac(&self, message: MessageId, text: &str) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(TEXT_DOMAIN);
        context.update(message.as_bytes());
        context.update(text.as_bytes());
        context.sign().as_ref().iter().take(TEXT_MAC_BYTES).copied().collect()
    }
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuditKey({})", self.id)
    }
}

struct MacLength;

impl KeyType for MacLength {
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
    fn key_id_is_unique_and_debug_shows_only_id() {
        let [one, two] = ["x", "y"].map(|letter| AuditKey::new(&secret(&letter.repeat(32))));
        assert_ne!(one.id(), two.id());
        assert_eq!(one.id(), AuditKey::new(&secret(&"x".repeat(32))).id());
        assert_eq!(format!("{one:?}"), format!("AuditKey({})", one.id()));
        assert_ne!(one.sign(b"a"), two.sign(b"a"));
    }

    #[test]
    fn text_mac_depends_on_text_message_and_key() {
        let [one, two] = ["x", "y"].map(|letter| AuditKey::new(&secret(&letter.repeat(32))));
        let mac = one.text_mac(MessageId::from_u128(7), "hello");
        assert_eq!((mac.len(), &mac), (TEXT_MAC_BYTES, &one.text_mac(MessageId::from_u128(7), "hello")));
        assert_ne!(mac, one.text_mac(MessageId::from_u128(7), "hello "));
        assert_ne!(mac, one.text_mac(MessageId::from_u128(8), "hello"));
        assert_ne!(mac, two.text_mac(MessageId::from_u128(7), "hello"));
    }

    #[test]
    fn derived_key_is_stable_and_differs_from_secret() {
        let jwt = secret(&"x".repeat(32));
        let derived = AuditKey::derived(&jwt).unwrap();
        assert_eq!(derived.id(), AuditKey::derived(&jwt).unwrap().id());
        assert_ne!(derived.id(), AuditKey::new(&jwt).id());
    }
}
