//! What the API service and the gateway share.
//!
//! | folder | holds |
//! | --- | --- |
//! | [`contract`] | what both services must agree on: identifiers, events, names in Redis, tokens, audit entries, problem bodies |
//! | [`kit`] | what both services merely use: settings, TLS, telemetry, shutdown, rate limits, Redis connections |
//!
//! The contract may use the kit. The kit never imports the contract, which `scripts/check-layers` enforces.
//! Neither knows poem, tokio-postgres or tungstenite: those belong to the services. Only [`kit::redis`] knows fred.

pub mod contract;
pub mod kit;
