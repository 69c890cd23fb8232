//! Real PostgreSQL, Redis and HAProxy, started by the real `stack` binary; only the services are
//! stand-ins (`examples/stand_in.rs`), so that this crate is tested on its own.

#![allow(clippy::unwrap_used, reason = "a test fails where it finds the fault")]

mod faults;
mod life;
mod proxy;
mod setting;
