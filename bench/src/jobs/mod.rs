//! The jobs: each starts what it measures, takes turns between the peers, and gives tables.

pub(crate) mod e2e;
pub(crate) mod growth;
pub(crate) mod handshake;
pub(crate) mod idle;
pub(crate) mod idle_many;
pub(crate) mod pgbench;
pub(crate) mod relay;
pub(crate) mod scaling;
pub(crate) mod storm;
pub(crate) mod write;

use std::time::Duration;

use anyhow::{Context, Result};

use crate::api_targets::ApiTarget;
use crate::gateway_targets::GatewayTarget;

/// What is asked of every job.
#[derive(Debug)]
pub(crate) struct RunOptions {
    /// How often every peer has its turn.
    pub(crate) rounds: usize,
    /// Of one measurement within a turn.
    pub(crate) duration: Duration,
    pub(crate) relays: Vec<GatewayTarget>,
    pub(crate) writers: Vec<ApiTarget>,
    /// Sockets, for jobs with a variable number.
    pub(crate) sockets: Option<usize>,
}

/// `a` in units of `b`, as `1.23×`; a dash when either is missing.
pub(crate) fn ratio(a: Option<f64>, b: Option<f64>) -> String {
    match (a, b) {
        (Some(a), Some(b)) if b > 0.0 => format!("{:.2}×", a / b),
        _ => "–".to_owned(),
    }
}

/// A baseline that fails misses its turn, and says so; ours fails the job.
pub(crate) fn skip_failed_baseline(name: &str, is_baseline: bool, outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(error) if is_baseline => {
            eprintln!("  {name} misses this turn: {error:#}");
            Ok(())
        }
        outcome => outcome.with_context(|| format!("{name} failed")),
    }
}
