//! A chain of rows: each holds a keyed hash of itself and of the one before, and the head seals the last of them.

use super::key::{AuditKey, MAC_BYTES, Mac};
use super::row::Row;

/// What a hash is of; no hash of one kind can stand for another.
const ROW_DOMAIN: &[u8] = b"ehr-chat audit row v1";
const HEAD_DOMAIN: &[u8] = b"ehr-chat audit head v1";
/// Before the first row.
const EMPTY_MAC: Mac = [0; MAC_BYTES];
/// Bytes of a row that names no messages, and then some.
const TYPICAL_ROW_BYTES: usize = 512;

/// Where a chain ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Which chain.
    pub chain: i64,
    /// When it was opened, in microseconds since 1970.
    pub opened_at: i64,
    /// The last row's place; 0 when there is none.
    pub n: i64,
    /// The last row's hash.
    pub mac: Mac,
}

impl Head {
    /// Of a chain without rows.
    #[must_use]
    pub fn new(chain: i64, opened_at: i64) -> Self {
        Self { chain, opened_at, n: 0, mac: EMPTY_MAC }
    }

    /// Goes on to the next row: its place and hash are the head's then.
    pub fn advance(&mut self, key: &AuditKey, row: &Row, buffer: &mut Vec<u8>) {
        // Nobody writes so many; who reads must bear whatever stands there.
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

    /// What says that the chain ends here. Without it whoever cuts off the last rows would take the hash of the last one
    /// left for the head.
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
