//! The whole system, through HAProxy's public port only: real PostgreSQL, Redis, two API services, two gateways.
//!
//! One system for all tests of this binary; each test has a location of its own, so they run in parallel.

#![allow(clippy::unwrap_used, reason = "a test fails where it finds the fault")]

mod audit;
mod authorization;
mod bad_handshakes;
mod bad_requests;
mod bad_tokens;
mod brief_examples;
mod browsers;
mod configuration;
mod conformance;
mod contradictions;
mod first_unread;
mod frames;
mod history;
mod idempotency;
mod inbox;
mod inbox_sockets;
mod isolation;
mod issuers;
mod live;
mod migrations;
mod order;
mod presence;
mod problem_codes;
mod receipts;
mod responses;
mod resume;
mod rights_first;
mod secrecy;
mod slow;
mod start;
mod tickets;

use std::path::PathBuf;
use std::sync::{LazyLock, OnceLock};

use e2e::TestLocation;
use e2e::issuer::{Issuer, Jwks};
use jsonwebtoken::Algorithm;
use stack::{Stack, StackOptions};

/// The system that all tests share. It ends with this process, whose end closes its standard input.
fn stack() -> &'static Stack {
    static STACK: OnceLock<Stack> = OnceLock::new();
    STACK.get_or_init(|| {
        // Much is logged: `secrecy` looks for what must not be, even so.
        let jwks = jwks().path().to_str().unwrap();
        let env = [("LOG_LEVEL", "trace"), ("JWKS_FILE", jwks), ("ALLOWED_ORIGINS", ALLOWED_ORIGIN)];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Stack::start(StackOptions { api: 2, gateways: 2, env, ..StackOptions::default() }).unwrap()
    })
}

/// Whose pages may ask, beside the system's own.
const ALLOWED_ORIGIN: &str = "https://ehr.example";

/// Whose keys the system knows, from the beginning to the end. Two of them are for the same algorithm.
fn issuers() -> &'static [Issuer; 4] {
    static ISSUERS: LazyLock<[Issuer; 4]> = LazyLock::new(|| {
        [(Algorithm::RS256, "rsa"), (Algorithm::ES256, "ec"), (Algorithm::EdDSA, "ed"), (Algorithm::RS256, "rsa2")]
            .map(|(algorithm, kid)| Issuer::new(algorithm, kid))
    });
    &ISSUERS
}

/// The file in which the system finds them.
fn jwks() -> &'static Jwks {
    static JWKS: LazyLock<Jwks> = LazyLock::new(|| {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("jwks-{}.json", std::process::id()));
        Jwks::publish(path, &issuers().each_ref())
    });
    &JWKS
}

/// Takes a key out of the file again.
struct Published;

impl Drop for Published {
    fn drop(&mut self) {
        jwks().replace(&issuers().each_ref());
    }
}

/// Publishes one key more, for as long as the value lives. Only one test does.
fn publish_also(issuer: &Issuer) -> Published {
    let all: Vec<&Issuer> = issuers().iter().chain([issuer]).collect();
    jwks().replace(&all);
    Published
}

/// A location of its own.
fn place() -> TestLocation {
    TestLocation::new(stack())
}
