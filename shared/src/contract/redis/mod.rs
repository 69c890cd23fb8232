//! Every name in Redis, and the scripts that work on them. Nothing else formats a name in Redis.
//!
//! - [`keys`]: names of channels, logs, streams and keys
//! - [`scripts`]: scripts that work on event logs, inboxes and streams
//! - [`presence`]: names and scripts of presence
//! - [`revocations`]: scripts that work on the copy of the revocations

pub mod keys;
pub mod presence;
pub mod revocations;
pub mod scripts;
