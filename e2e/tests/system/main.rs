//! The whole system, through HAProxy's public port only: real PostgreSQL, Redis, two API services, two gateways.
//!
//! One system for all tests of this binary; each test has a location of its own, so they run in parallel.

#![allow(clippy::unwrap_used, reason = "a test fails where it finds the fault")]

mod attack;
mod audit;
mod bad_handshakes;
mod bad_requests;
mod bad_tokens;
mod frames;
mod history;
mod idempotency;
mod inbox;
mod isolation;
mod live;
mod order;
mod receipts;
mod resume;
mod secrecy;
mod slow;
mod specified;

use std::sync::OnceLock;

use e2e::Place;
use stack::{Stack, StackOptions};

/// The system that all tests share. It ends with this process, whose end closes its standard input.
fn stack() -> &'static Stack {
    static STACK: OnceLock<Stack> = OnceLock::new();
    STACK.get_or_init(|| {
        // Much is logged: `secrecy` looks for what must not be, even so.
        let env = vec![("LOG_LEVEL".to_owned(), "trace".to_owned())];
        Stack::start(StackOptions { api: 2, gateways: 2, env, ..StackOptions::default() }).unwrap()
    })
}

/// A location of its own.
fn place() -> Place {
    Place::new(stack())
}
