//! What both services merely use. Nothing here knows the [`crate::contract`].
//!
//! - [`env`]: settings from the environment, all errors reported together
//! - [`crypto`]: authenticated encryption, key rings, values that never appear in logs
//! - [`net`]: listeners, TLS, file descriptors, health check
//! - [`token_bucket`]: token buckets per caller
//! - [`redis`]: connections to Redis, and to every node of a cluster
//! - [`json`]: strict JSON
//! - [`own_thread`]: a thread for one task
//! - [`telemetry`]: logs, metrics and traces
//! - [`shutdown`]: tasks that end together, under one deadline
//! - [`timestamp`]: times as clients read them

pub mod crypto;
pub mod env;
pub mod json;
pub mod net;
pub mod own_thread;
pub mod redis;
pub mod shutdown;
pub mod telemetry;
pub mod timestamp;
pub mod token_bucket;
