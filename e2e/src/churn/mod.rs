//! An hour of coming and going, and whether the services hold more memory at its end: `make churn`.
//!
//! | module | owns |
//! | --- | --- |
//! | `load` | clients that connect, abort, buy tickets, send and revoke at a steady pace |
//! | `memory` | [`Samples`]: what each process holds over time, and whether that is flat |

mod load;
mod memory;

use std::time::Duration;

use anyhow::{Result, ensure};
use stack::{Stack, StackOptions};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::test_location::TestLocation;
use load::Load;
use memory::Samples;

/// How often memory is looked at. A long run has 120 samples, a short one has more to the minute.
const SAMPLES: u32 = 120;

/// Lets clients come and go for this long; true when memory is flat. Prints each sample.
///
/// # Errors
/// When the system cannot be started, a client fails, or a process has died.
pub async fn run(lasts: Duration) -> Result<bool> {
    let options = StackOptions { api: 2, gateways: 2, ..StackOptions::default() };
    let stack = tokio::task::spawn_blocking(|| Stack::start(options)).await??;
    let before = stack.env().pids();
    let mut load = Load::begin(&TestLocation::new(&stack));
    let mut samples = Samples::default();
    let (began, mut beat) = (Instant::now(), interval(lasts / SAMPLES));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Samples::print_head();
    while began.elapsed() < lasts {
        beat.tick().await;
        samples.take(&stack.env(), began.elapsed(), load.count())?;
        ensure!(load.failures() == 0, "a client has failed");
    }
    load.end().await;
    println!("{}", samples.to_markdown());
    ensure!(stack.env().pids() == before, "a process has died and was restarted");
    let is_flat = samples.are_flat();
    tokio::task::spawn_blocking(move || stack.stop()).await??;
    Ok(is_flat)
}
