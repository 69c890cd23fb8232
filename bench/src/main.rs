//! What `make bench` runs: measures a system that it starts itself, from outside, through the load balancer.
//!
//! `latency`: `POST /chat/send` → frame at the receiver, at a fixed rate. `throughput`: sends a second from a fixed
//! number of connections, each busy all the time. `people` are the pairs that take part, `figures` the percentiles.

mod figures;
mod latency;
mod people;
mod throughput;

use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use stack::{Stack, StackOptions};

/// Measures the chat from outside, through the load balancer
#[derive(Parser)]
struct Arguments {
    /// Which part to run; both when not given
    part: Option<Part>,
    /// Seconds that each measurement takes
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Sends a second of the latency measurement
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Connections of the throughput measurement
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// How often each measurement is repeated; the median is told
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Latency,
    Throughput,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let stack = Stack::start(StackOptions::default())?;
    let target = people::Target::of(&stack.env())?;
    let duration = Duration::from_secs(arguments.seconds);
    let wanted = |part| arguments.part.is_none_or(|only| only == part);
    // Rounds take turns, so that a noisy minute of the machine falls on both.
    for round in 1..=arguments.rounds {
        println!("round {round} of {}", arguments.rounds);
        if wanted(Part::Latency) {
            println!("  latency     {}", latency::measure(&target, arguments.rate, duration).await?);
        }
        if wanted(Part::Throughput) {
            println!("  throughput  {}", throughput::measure(&target, arguments.connections, duration).await?);
        }
    }
    stack.stop()
}
