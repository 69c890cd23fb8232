//! Every fault once, in random order, under load: on one Redis server, and those that a Redis Cluster, Sentinels or a standby of
//! PostgreSQL add. The long version is `make chaos`.
//!
//! They take turns: the load of one would be a fault to the other.

#![allow(clippy::expect_used, reason = "a test fails where it finds the fault")]

use std::time::Duration;

use e2e::chaos::{Fault, Plan, Topology, run};
use tokio::sync::Mutex;

static TURN: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_messages_survive_every_fault() {
    nothing_is_lost(Topology::Single, false, |fault| fault.on(Topology::Single) && fault.on_database(false)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_messages_survive_every_cluster_fault() {
    nothing_is_lost(Topology::Cluster, false, |fault| fault.on(Topology::Cluster) && !fault.on(Topology::Single)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_messages_survive_every_sentinel_fault() {
    nothing_is_lost(Topology::Sentinel, false, |fault| fault.on(Topology::Sentinel) && !fault.on(Topology::Single))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_messages_survive_every_standby_fault() {
    nothing_is_lost(Topology::Single, true, |fault| !fault.on_database(false)).await;
}

async fn nothing_is_lost(topology: Topology, has_standby: bool, strikes: impl Fn(Fault) -> bool) {
    let _turn = TURN.lock().await;
    let plan = Plan {
        seed: rand::random_range(0..1_000_000),
        topology,
        has_standby,
        duration: None,
        faults: Fault::ALL.into_iter().filter(|fault| strikes(*fault)).collect(),
        conversations: 8,
        pace: Duration::from_millis(800),
    };
    let report = run(&plan).await.expect("every fault can be done");
    assert!(report.is_good(), "seed {}: {:#?}", plan.seed, report.failures());
}
