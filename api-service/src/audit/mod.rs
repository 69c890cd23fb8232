//! The audit trail: rows in chains of keyed hashes. Without the key, no row can be changed, removed, added or reordered
//! unnoticed.
//!
//! - [`key`]: the HMAC key
//! - [`row`]: a row and its canonical bytes
//! - [`chain`]: how a row extends a chain
//! - [`writer`]: writes entries that have no transaction of their own
//! - [`verify`]: verifies whole chains
//! - [`row_check`]: verifies single rows
//! - [`message_check`]: compares messages with their rows
//! - [`anchors`]: ends of chains, kept outside the database
//! - [`fhir`]: a row as a FHIR AuditEvent
//! - [`commands`]: `audit verify` and `audit export`
//!
//! `store::audit` holds the SQL.

pub mod anchors;
pub mod chain;
pub mod commands;
pub mod fhir;
pub mod key;
pub mod message_check;
pub mod row;
pub mod row_check;
pub(crate) mod settings;
pub mod verify;
pub mod writer;
