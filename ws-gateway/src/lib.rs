//! The WebSocket gateway: holds sockets and relays events from Redis to them.
//!
//! It knows Redis and the token keys, and no database. What the database must store goes through Redis streams to the
//! API service.
//!
//! # Layout, from top to bottom
//! No module imports one above it. `make lint` checks this order.
//! - `serve`: builds everything, runs it, and ends it in order
//! - `admin`: the admin port: metrics and health
//! - `http`: the public port up to the WebSocket handshake
//! - `session`: one task per socket
//! - `state`: what handshakes and sessions share
//! - `auth`: revocations and tickets; `pubsub`: Redis subscriptions and event logs → hub
//! - `presence`: which participants are online
//! - `streams`: receipts and audit entries → API service; `hub`: rooms of sockets, gap detection, backfill
//! - `socket`: topic, outbound queue, timer and close reason of a socket
//! - `rate_limit`: limits per participant and address; `redis`: connections to Redis; `websocket`: frames as bytes
//! - [`config`]: the settings, one file per concern; `metrics`: the list of all metrics

mod admin;
mod auth;
pub mod config;
mod http;
mod hub;
mod metrics;
mod presence;
mod pubsub;
mod rate_limit;
mod redis;
mod serve;
mod session;
mod socket;
mod state;
mod streams;
mod websocket;

pub use serve::{RunError, run};
