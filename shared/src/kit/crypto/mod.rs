//! Authenticated encryption, lists of keys, and values that never appear in logs.

pub mod key_ring;
pub mod redacted;
pub mod seal;
