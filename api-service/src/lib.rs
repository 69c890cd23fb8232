//! HTTP API of the EHR chat: authenticates callers, writes messages to PostgreSQL, publishes them to Redis. Instances keep no state.
//!
//! A request passes these layers from top to bottom:
//!
//! | module | owns |
//! | --- | --- |
//! | [`cli`] | the commands |
//! | [`serve`] | composition of the running service |
//! | [`config`] | all settings, collected from the modules that own them |
//! | [`http`] | the ports, middleware, endpoints, OpenAPI document |
//! | [`metrics`], [`state`] | the list of metrics; what all requests share |
//! | [`stream_consumer`] | applies what gateways report through Redis streams |
//! | [`domain`] | use cases: authorize, validate, then call the modules below |
//! | [`send_batcher`] | group commit: sends share transactions |
//! | [`audit_writer`], [`revocation`], [`ticket_issuer`], [`presence_reader`] | audit entries of reads and denials, revoked tokens, tickets, presence |
//! | [`monitors`] | tasks that watch the database, the clock and the master keys |
//! | [`outbox`] | publishes committed events, at least once |
//! | [`store`] | SQL; the only module that names tokio-postgres |
//! | [`audit`] | the chained audit trail: rows, verifier, export format |
//! | [`envelope`] | keys of content at rest |
//! | [`limits`] | rates and unread responses per caller |
//! | [`model`] | messages, pages, origins: types that every layer may use |
//!
//! Imports point down only; `scripts/import-graph/layers` states the order.

pub mod audit;
pub mod audit_writer;
pub mod cli;
pub mod config;
mod detached_request;
pub mod domain;
pub mod envelope;
pub mod http;
pub mod limits;
pub mod metrics;
pub mod model;
pub mod monitors;
pub mod outbox;
pub mod presence_reader;
pub mod revocation;
pub mod send_batcher;
pub mod serve;
pub mod state;
pub mod store;
pub mod stream_consumer;
pub mod ticket_issuer;
