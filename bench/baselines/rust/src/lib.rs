//! What the baselines in Rust share. They are peers to be measured against, not products: see `bench/baselines/README.md`.
//!
//! | module | owns |
//! | --- | --- |
//! | `redis` | one connection to Redis, and the little of its protocol that is needed |
//! | `settings` | environment variables, the listener, the line `ready` |

pub mod redis;
pub mod settings;
