//! The public port, up to the moment a connection becomes a WebSocket.
//!
//! - `server`: accepts connections and bounds pending handshakes
//! - `handshake`: routes a request, authenticates, authorizes, subscribes
//! - `credential`, `query`, `headers`: what a request carries
//! - `response`, `error`: what it is answered with
//! - `health`: whether this gateway accepts sockets
//!
//! Every response except `101` closes its connection. No response repeats a token.

mod credential;
mod error;
mod handshake;
mod headers;
mod health;
mod query;
mod response;
pub(crate) mod server;

pub(crate) use error::HttpError;
pub(crate) use headers::request_id_of;
pub(crate) use health::{is_ready, readiness};
pub(crate) use response::{health_ok, options_response};
