//! Random faults for a long time: `make chaos`, `MINUTES=30 SEED=… make chaos`. Fails when anything is lost, doubled, out of
//! order, or hangs. The table is left in `target/chaos.md`. `FAULTS=word,word` picks those whose name has one of the words.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::chaos::{Fault, Plan, run};
use time::OffsetDateTime;

const OUTPUT: &str = "target/chaos.md";

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let minutes = number("MINUTES", 30)?;
    let seed = number("SEED", rand::random_range(0..1_000_000))?;
    let words = std::env::var("FAULTS").unwrap_or_default().to_lowercase();
    let faults: Vec<Fault> = Fault::ALL
        .into_iter()
        .filter(|fault| words.split(',').any(|word| fault.name().to_lowercase().contains(word)))
        .collect();
    ensure!(!faults.is_empty(), "no fault is named {words:?}");
    let plan = Plan {
        seed,
        duration: Some(Duration::from_secs(minutes * 60)),
        faults,
        conversations: 12,
        pace: Duration::from_millis(600),
    };
    let report = run(&plan).await?;

    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let today = OffsetDateTime::now_utc().date();
    let (conversations, pace) = (plan.conversations, plan.pace.as_millis());
    let text = format!(
        "Measured on {today}: {minutes} minutes, seed {seed}, {cores} cores for everything, clients included; \
         2 API services, 2 gateways, {conversations} conversations, each of two senders with a message every {pace} ms.\n\n{}",
        report.to_markdown()
    );
    println!("\n{text}");
    std::fs::create_dir_all("target")?;
    std::fs::write(OUTPUT, &text).with_context(|| format!("cannot write {OUTPUT}"))?;
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
