//! Every fault once, in random order, under load. The long version is `make chaos`.

use std::time::Duration;

use e2e::chaos::{Fault, Plan, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_strikes_nothing_acknowledged_is_lost_doubled_or_out_of_order() {
    let plan = Plan {
        seed: rand::random_range(0..1_000_000),
        duration: None,
        faults: Fault::ALL.to_vec(),
        conversations: 8,
        pace: Duration::from_millis(800),
    };
    let report = run(&plan).await.expect("every fault can be done");
    assert!(report.is_good(), "seed {}: {:#?}", plan.seed, report.failures());
}
