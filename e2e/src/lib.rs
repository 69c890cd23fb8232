//! A small client of the chat, for tests through the public port only.
//!
//! | module | owns |
//! | --- | --- |
//! | `test_location` | [`TestLocation`]: one location of a running system, empty when a test gets it; [`TestUser`]: who acts there |
//! | `token` | tokens: good ones, and every kind of bad one |
//! | `issuer` | issuers with keys of their own, and the file in which they publish them |
//! | `http_response` | [`HttpResponse`]: what came back, and what every refusal must look like |
//! | `secret_text` | texts that may occur in messages only |
//! | `socket` | [`Socket`]: frames as they come, each awaited with a deadline |
//! | `cluster` | a Redis Cluster as an operator sees it: who is master, a slot on its way |
//! | `sentinels` | a Redis master with replicas and Sentinels, as an operator sees them |
//! | `chaos` | faults under load: its clients count what they meet and panic never |
//! | `churn` | clients that come and go for an hour, and what the services hold in memory |
//! | `skew` | two versions together, during an upgrade and its rollback |
//! | `contract` | `asyncapi.yaml`: holds every frame of a [`Socket`], either way, against it |
//! | `raw_http`, `raw_websocket` | HTTP, and WebSocket frames, by hand, where a client library is too well-behaved |
//! | `audit` | the audit trail, and the commands that verify and export it |
//!
//! Anything unexpected panics on the spot: that is what fails a test.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "this code runs in tests only; a panic is their verdict")]

pub mod audit;
pub mod chaos;
pub mod churn;
pub mod cluster;
pub mod contract;
mod http_response;
pub mod issuer;
pub mod raw_http;
pub mod raw_websocket;
mod secret_text;
pub mod sentinels;
pub mod skew;
mod socket;
mod test_location;
pub mod token;

use std::time::Duration;

pub use http_response::{HttpResponse, assert_members};
pub use secret_text::{SECRET_MARK, secret_text};
pub use socket::{Received, Socket};
pub use test_location::{Role, TestLocation, TestUser};

/// How long anything may take on a machine that is busy with other tests.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(20);
