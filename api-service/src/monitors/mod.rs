//! Tasks that watch what this service depends on, and what they found.

pub mod clock;
mod commit_waits;
pub mod database;
pub mod master_keys;
