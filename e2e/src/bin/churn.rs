//! Clients that come and go for a long time: `make churn`, `MINUTES=60 make churn`. Fails when a service holds more memory at the
//! end than after the first half, when a client fails, or when a process dies.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let minutes: u64 = match std::env::var("MINUTES") {
        Ok(text) if !text.is_empty() => text.parse().context("MINUTES must be a whole number")?,
        _ => 60,
    };
    let is_flat = e2e::churn::run(Duration::from_secs(minutes * 60)).await?;
    println!("{}", if is_flat { "memory is flat" } else { "FAILED: memory grows" });
    Ok(if is_flat { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
