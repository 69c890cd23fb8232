//! The audit trail: rows in chains of keyed hashes. Without the key, no row can be changed, removed, added or reordered
//! unnoticed.
//!
//! - [`key`]: the HMAC key
//! - [`row`]: a row and its canonical bytes
//! - [`chain`]: how a row extends a chain
//! - [`verify`]: verifies whole chains
//! - [`row_check`]: verifies single rows
//! - [`message_check`]: compares messages with their rows
//! - [`anchors`]: ends of chains, kept outside the database
//! - [`fhir`]: a row as a FHIR AuditEvent
//!
//! Knows no SQL: `store::audit` writes and reads the rows.

pub mod anchors;
pub mod chain;
pub mod fhir;
pub mod key;
pub mod message_check;
pub mod row;
pub mod row_check;
pub(crate) mod settings;
pub mod verify;
