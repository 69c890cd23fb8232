//! What the system tells of itself, and whom it turns away: a system with limits, a collector for its traces, and all of
//! its logs. One for all tests of this binary.

#![allow(clippy::unwrap_used, reason = "a test fails where it finds the fault")]

mod collector;
mod health;
mod limits;
mod metrics;
mod secrecy;
mod traces;

use std::sync::OnceLock;

use collector::Collector;
use e2e::TestLocation;
use stack::{Stack, StackOptions};

struct Watched {
    stack: Stack,
    collector: Collector,
}

/// Requests of one participant at once.
const PARTICIPANT_BURST: usize = 60;
/// Messages of one contact at once.
const CONTACT_SENDS_BURST: usize = 20;
/// Requests of one address at once.
const ADDRESS_BURST: usize = 500;
/// Refused tokens of one address at once.
const FAILURES_BURST: usize = 40;

fn watched() -> &'static Watched {
    static WATCHED: OnceLock<Watched> = OnceLock::new();
    WATCHED.get_or_init(|| {
        let collector = Collector::start();
        let settings = [
            ("LOG_LEVEL", "trace".to_owned()),
            ("LOG_FORMAT", "json".to_owned()),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()),
            ("RATE_LIMIT_PARTICIPANT_PER_SECOND", "2".to_owned()),
            ("RATE_LIMIT_PARTICIPANT_BURST", PARTICIPANT_BURST.to_string()),
            ("RATE_LIMIT_CONTACT_SENDS_PER_SECOND", "1".to_owned()),
            ("RATE_LIMIT_CONTACT_SENDS_BURST", CONTACT_SENDS_BURST.to_string()),
            ("RATE_LIMIT_ADDRESS_PER_SECOND", "50".to_owned()),
            ("RATE_LIMIT_ADDRESS_BURST", ADDRESS_BURST.to_string()),
            ("RATE_LIMIT_FAILURES_PER_SECOND", "1".to_owned()),
            ("RATE_LIMIT_FAILURES_BURST", FAILURES_BURST.to_string()),
            ("MAX_SOCKETS_PER_PARTICIPANT", "3".to_owned()),
        ];
        let env = settings.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let stack = Stack::start(StackOptions { api: 1, gateways: 1, env, ..StackOptions::default() }).unwrap();
        Watched { stack, collector }
    })
}

/// A location of its own.
fn place() -> TestLocation {
    TestLocation::new(&watched().stack)
}

/// What all services tell about themselves now.
async fn all_metrics(place: &TestLocation) -> String {
    let mut text = String::new();
    for url in &place.env.admin_urls {
        let answer = place.with_base_url(url).get("/metrics").await;
        assert_eq!(answer.status, 200);
        text.push_str(&answer.text);
    }
    text
}

/// The value of a metric, all services together.
async fn metric(place: &TestLocation, name: &str) -> f64 {
    let text = all_metrics(place).await;
    let values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    values.map(|value| value.parse::<f64>().unwrap()).sum()
}
