//! AES-256-GCM in the one form in which bytes are sealed here: ciphertext, tag, nonce.
//!
//! Nonces are random, drawn by AWS-LC itself. A key is good for 2^32 of them, so every key here belongs to something
//! small: a location, a conversation.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
/// By how many bytes sealing makes something longer.
pub const OVERHEAD_BYTES: usize = 16 + NONCE_LEN;

/// A key, ready for use. AWS-LC overwrites its memory when it is dropped.
pub struct Key(RandomizedNonceKey);

/// Why something was not sealed or opened. Says nothing of what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The cipher itself fails, for want of memory or randomness.
    #[error("the cipher fails")]
    Cipher,
    /// Sealed with another key, or for another place, or altered since.
    #[error("it was sealed with another key or for another place, or was altered")]
    AuthenticationFailed,
}

impl Key {
    /// A key of these bytes.
    ///
    /// # Errors
    /// [`SealError::Cipher`]
    pub fn new(bytes: &[u8; KEY_BYTES]) -> Result<Self, SealError> {
        RandomizedNonceKey::new(&AES_256_GCM, bytes).map(Self).map_err(|_| SealError::Cipher)
    }

    /// Seals all of `buffer` behind its first `from` bytes, where it lies. It opens for who names the same `place`.
    ///
    /// # Errors
    /// [`SealError::Cipher`]; what was to be sealed is no longer in `buffer` then.
    pub fn seal(&self, place: &[u8], buffer: &mut Vec<u8>, from: usize) -> Result<(), SealError> {
        buffer.reserve(OVERHEAD_BYTES);
        let plain = buffer.get_mut(from..).ok_or(SealError::Cipher)?;
        let Ok((nonce, tag)) = self.0.seal_in_place_separate_tag(Aad::from(place), plain) else {
            buffer.truncate(from);
            return Err(SealError::Cipher);
        };
        buffer.extend_from_slice(tag.as_ref());
        buffer.extend_from_slice(nonce.as_ref());
        Ok(())
    }

    /// Opens all of `buffer` behind its first `from` bytes, where it lies.
    ///
    /// # Errors
    /// [`SealError::AuthenticationFailed`]; nothing is behind the first bytes then.
    pub fn open(&self, place: &[u8], buffer: &mut Vec<u8>, from: usize) -> Result<(), SealError> {
        let opened = self.open_in_place(place, buffer.get_mut(from..).unwrap_or_default());
        buffer.truncate(from + opened.unwrap_or(0));
        opened.map(drop)
    }

    fn open_in_place(&self, place: &[u8], sealed: &mut [u8]) -> Result<usize, SealError> {
        let end = sealed.len().checked_sub(NONCE_LEN).ok_or(SealError::AuthenticationFailed)?;
        let (sealed, nonce) = sealed.split_at_mut(end);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::AuthenticationFailed)?;
        let plain =
            self.0.open_in_place(nonce, Aad::from(place), sealed).map_err(|_| SealError::AuthenticationFailed)?;
        Ok(plain.len())
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(byte: u8) -> Key {
        Key::new(&[byte; KEY_BYTES]).unwrap()
    }

    fn sealed(plain: &[u8]) -> Vec<u8> {
        let mut buffer = [b"head", plain].concat();
        key(1).seal(b"place", &mut buffer, 4).unwrap();
        buffer
    }

    #[test]
    fn equal_texts_seal_differently() {
        let (once, again) = (sealed(b"hello"), sealed(b"hello"));
        assert_eq!(once.len(), 4 + 5 + OVERHEAD_BYTES);
        assert_ne!(once[4..9], again[4..9]);
        assert_ne!(once[once.len() - NONCE_LEN..], again[again.len() - NONCE_LEN..]);
    }

    #[test]
    fn other_implementation_opens_sealed_text() {
        let mut buffer = sealed(b"hello");
        let nonce = Nonce::try_assume_unique_for_key(&buffer.split_off(buffer.len() - NONCE_LEN)).unwrap();
        let key =
            aws_lc_rs::aead::LessSafeKey::new(aws_lc_rs::aead::UnboundKey::new(&AES_256_GCM, &[1; KEY_BYTES]).unwrap());
        assert_eq!(key.open_in_place(nonce, Aad::from(b"place"), &mut buffer[4..]).unwrap(), b"hello");
    }

    proptest! {
        #[test]
        fn sealed_text_opens_and_prefix_stays(plain in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut buffer = sealed(&plain);
            prop_assert_eq!(key(1).open(b"place", &mut buffer, 4), Ok(()));
            prop_assert_eq!(buffer, [&b"head"[..], &plain].concat());
        }

        #[test]
        fn altered_text_does_not_open(plain in prop::collection::vec(any::<u8>(), 0..100), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let mut buffer = sealed(&plain);
            let at = 4 + at.index(buffer.len() - 4);
            buffer[at] ^= 1 << bit;
            prop_assert_eq!(key(1).open(b"place", &mut buffer, 4), Err(SealError::AuthenticationFailed));
            prop_assert_eq!(buffer, b"head", "nothing of it is left to be taken for what was sealed");
        }

        #[test]
        fn other_key_or_associated_data_does_not_open(place in "[a-z]{0,8}", byte in 2_u8..) {
            prop_assume!(place != "place");
            prop_assert_eq!(key(1).open(place.as_bytes(), &mut sealed(b"hello"), 4), Err(SealError::AuthenticationFailed));
            prop_assert_eq!(key(byte).open(b"place", &mut sealed(b"hello"), 4), Err(SealError::AuthenticationFailed));
        }

        #[test]
        fn open_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..100), from in 0_usize..120) {
            prop_assert_eq!(key(1).open(b"place", &mut bytes, from), Err(SealError::AuthenticationFailed));
        }
    }
}
