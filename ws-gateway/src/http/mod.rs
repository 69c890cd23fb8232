//! The public port, up to the moment a connection becomes a WebSocket.
//!
//! - `server`: accepts connections, bounds pending handshakes
//! - `handshake`: routes a request, authenticates, authorizes and subscribes
//! - `query`: the query of a handshake
//! - `response`: HTTP responses and errors

mod handshake;
mod query;
mod response;
pub(crate) mod server;

pub(crate) use handshake::{AcceptedSocket, is_ready, readiness, request_id_of};
pub(crate) use response::{admin_not_found, health_ok, method_not_allowed, options_response};
