//! The audit trail: rows that are chained with a keyed hash, so that nobody without the key can change, remove, add or
//! reorder any of them unnoticed. Free of SQL; `store::audit` keeps the rows, `auditor` writes what no transaction of its own
//! writes.
//!
//! - [`key`]: what the hashes are made with
//! - [`row`]: a row as it is kept
//! - [`chain`]: from row to row
//! - [`verify`]: walks along the chains and says what is wrong
//! - [`row_check`]: looks at one row of a chain
//! - [`message_check`]: compares the messages with what the trail says of them
//! - [`anchors`]: where chains ended earlier, kept elsewhere
//! - [`fhir`]: a row as an AuditEvent

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
