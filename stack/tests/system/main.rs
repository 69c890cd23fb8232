//! Real PostgreSQL, Redis and HAProxy, started by the real `stack` binary; only the services are
//! fake-services (`examples/fake_service.rs`), so that this crate is tested on its own.

#![allow(clippy::unwrap_used, reason = "a test fails where it finds the fault")]

mod balancer;
mod faults;
mod life;
mod proxy;
mod standby;
mod test_env;
