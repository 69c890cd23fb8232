//! Integration tests: the real gateway in this process, and a `redis-server` per test.

#![cfg(test)]

mod auth;
mod delivery;
mod drain;
mod encryption;
mod event_logs;
mod http_errors;
mod limits;
mod malformed;
mod outage;
mod presence;
mod receipts;
mod resume;
mod revocation;
mod support;
mod tickets;
