//! HTTP API of the EHR chat: authenticates callers, writes messages to PostgreSQL, publishes them to Redis. Instances keep no state.
//!
//! A request passes these layers from top to bottom:
//!
//! | module | owns |
//! | --- | --- |
//! | [`cli`], [`serve`], [`config`] | commands, composition of the service, settings |
//! | [`http`] | the ports, middleware, endpoints, OpenAPI document |
//! | [`domain`] | use cases: authorize, validate, then call the modules below |
//! | [`send_batcher`] | group commit: sends share transactions |
//! | [`outbox`] | publishes committed events, at least once |
//! | [`stream_consumer`] | applies what gateways report through Redis streams |
//! | [`audit`] | the chained audit trail: writer, verifier, export |
//! | [`revocation`], [`ticket_issuer`], [`presence_reader`] | revoked tokens, tickets, presence |
//! | [`envelope`] | keys of content at rest |
//! | [`store`] | SQL; the only module that names tokio-postgres |
//! | [`model`] | messages, pages, origins: types that every layer may use |
//!
//! Beside them stand [`state`], [`metrics`], [`rate_limit`], [`clock_monitor`] and [`database_monitor`].

pub mod audit;
pub mod cli;
pub mod clock_monitor;
pub mod config;
pub mod database_monitor;
mod detached_request;
pub mod domain;
pub mod envelope;
pub mod http;
pub mod metrics;
pub mod model;
pub mod outbox;
pub mod presence_reader;
pub mod rate_limit;
pub mod revocation;
pub mod send_batcher;
pub mod serve;
pub mod state;
pub mod store;
pub mod stream_consumer;
pub mod ticket_issuer;
