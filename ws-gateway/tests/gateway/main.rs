//! The gateway as clients and Redis see it: the real server in this process, a real `redis-server` of each test's own.

#![cfg(test)]

mod auth;
mod delivery;
mod drain;
mod event_logs;
mod limits;
mod malformed;
mod outage;
mod presence;
mod proof;
mod refusals;
mod resume;
mod revocation;
mod sealed;
mod support;
mod tickets;
