//! A chain of audit rows.
//!
//! Each row holds an HMAC over its content, its position and the HMAC of the row before. The head holds the last position and a
//! seal: an HMAC over the whole head. Without the key a database owner cannot change, remove, add or reorder rows, nor cut off
//! the end, without breaking an HMAC.

use super::key::{AuditKey, MAC_BYTES, Mac};
use super::row::Row;

/// Domain separation: the hash of one kind can never stand for another.
const ROW_DOMAIN: &[u8] = b"ehr-chat audit row v1";
const HEAD_DOMAIN: &[u8] = b"ehr-chat audit head v1";
/// The hash before the first row.
const EMPTY_MAC: Mac = [0; MAC_BYTES];
/// Capacity for a row without message ids.
const TYPICAL_ROW_BYTES: usize = 512;

/// The end of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Number of the chain.
    pub chain: i64,
    /// When it was opened, in microseconds since 1970.
    pub opened_at: i64,
    /// Position of the last row; 0 when there is none.
    pub n: i64,
    /// Hash of the last row.
    pub mac: Mac,
}

impl Head {
    /// The head of an empty chain.
    #[must_use]
    pub fn new(chain: i64, opened_at: i64) -> Self {
        Self { chain, opened_at, n: 0, mac: EMPTY_MAC }
    }

    /// Appends a row: updates position and hash.
    pub fn advance(&mut self, key: &AuditKey, row: &Row, buffer: &mut Vec<u8>) {
        // Saturates, because the verifier also reads forged rows.
        self.n = self.n.saturating_add(1);
        buffer.clear();
        buffer.reserve(TYPICAL_ROW_BYTES);
        buffer.extend_from_slice(ROW_DOMAIN);
        buffer.extend_from_slice(&self.mac);
        buffer.extend_from_slice(&self.chain.to_be_bytes());
        buffer.extend_from_slice(&self.n.to_be_bytes());
        row.write(buffer);
        self.mac = key.sign(buffer);
    }

    /// The seal of this end. Without it, a truncated chain would look complete: its new last row has a valid hash.
    #[must_use]
    pub fn seal(&self, key: &AuditKey) -> Mac {
        let mut bytes = HEAD_DOMAIN.to_vec();
        bytes.extend_from_slice(&self.chain.to_be_bytes());
        bytes.extend_from_slice(&self.opened_at.to_be_bytes());
        bytes.extend_from_slice(&self.n.to_be_bytes());
        bytes.extend_from_slice(&self.mac);
        key.sign(&bytes)
    }
}
