//! Random faults for a long time: `make chaos`, `MINUTES=30 SEED=… make chaos`. Fails when anything is lost, doubled, out of
//! order, or hangs. The table is left in `target/chaos.md`. `FAULTS=word,word` picks those whose name has one of the words.
//! `CLUSTER=1` has a Redis Cluster in place of one server, and its own faults; that table is `target/chaos-cluster.md`. Links
//! to its nodes listen at 127.0.0.2 and 127.0.0.3, which Linux has by default. `SENTINEL=1` has a master with replicas and
//! Sentinels, and the faults of these; that table is `target/chaos-sentinel.md`. `STANDBY=1` gives PostgreSQL a synchronous
//! standby, and its own faults; that table is `target/chaos-standby.md`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use e2e::chaos::{Fault, Plan, Topology, run};
use time::OffsetDateTime;

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let minutes = number("MINUTES", 30)?;
    let seed = number("SEED", rand::random_range(0..1_000_000))?;
    let topology = match (number("CLUSTER", 0)?, number("SENTINEL", 0)?) {
        (0, 0) => Topology::Single,
        (_, 0) => Topology::Cluster,
        (0, _) => Topology::Sentinel,
        _ => bail!("set CLUSTER or SENTINEL, not both"),
    };
    let has_standby = number("STANDBY", 0)? != 0;
    let words = std::env::var("FAULTS").unwrap_or_default().to_lowercase();
    let faults: Vec<Fault> = Fault::ALL
        .into_iter()
        .filter(|fault| fault.on(topology) && fault.on_database(has_standby))
        .filter(|fault| words.split(',').any(|word| fault.name().to_lowercase().contains(word)))
        .collect();
    ensure!(!faults.is_empty(), "no fault on {topology} is named {words:?}");
    let plan = Plan {
        seed,
        topology,
        has_standby,
        duration: Some(Duration::from_secs(minutes * 60)),
        faults,
        conversations: 12,
        pace: Duration::from_millis(600),
    };
    let report = run(&plan).await?;

    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let today = OffsetDateTime::now_utc().date();
    let database = if has_standby { "PostgreSQL with a synchronous standby, " } else { "" };
    let (conversations, pace) = (plan.conversations, plan.pace.as_millis());
    let text = format!(
        "Measured on {today}: {minutes} minutes, seed {seed}, {cores} cores for everything, clients included; \
         {topology}, {database}2 API services, 2 gateways, {conversations} conversations, each of two senders with a message every {pace} ms.\n\n{}",
        report.to_markdown()
    );
    println!("\n{text}");
    std::fs::create_dir_all("target")?;
    let output = match topology {
        _ if has_standby => "target/chaos-standby.md",
        Topology::Single => "target/chaos.md",
        Topology::Cluster => "target/chaos-cluster.md",
        Topology::Sentinel => "target/chaos-sentinel.md",
    };
    std::fs::write(output, &text).with_context(|| format!("cannot write {output}"))?;
    for failure in report.failures() {
        println!("WRONG: {failure}");
    }
    println!("{}", if report.is_good() { "nothing lost, nothing doubled, no gap" } else { "FAILED" });
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn number(name: &str, default: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => text.parse().with_context(|| format!("{name} must be a whole number")),
        _ => Ok(default),
    }
}
