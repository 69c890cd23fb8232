//! The jobs: each starts what it measures, takes turns between the peers, and gives tables.

pub(crate) mod e2e;
pub(crate) mod handshake;
pub(crate) mod idle;
pub(crate) mod many;
pub(crate) mod pgbench;
pub(crate) mod relay;
pub(crate) mod scaling;
pub(crate) mod storm;
pub(crate) mod write;

use std::time::Duration;

use anyhow::{Context, Result};

use crate::relays::Relay;
use crate::writers::Writer;

/// What is asked of every job.
#[derive(Debug)]
pub(crate) struct Terms {
    /// How often every peer has its turn.
    pub(crate) rounds: usize,
    /// Of one measurement within a turn.
    pub(crate) duration: Duration,
    pub(crate) relays: Vec<Relay>,
    pub(crate) writers: Vec<Writer>,
    /// Sockets, where a job is told how many.
    pub(crate) sockets: Option<usize>,
}

/// `a` in units of `b`, as `1.23×`; a dash when either is missing.
pub(crate) fn ratio(a: Option<f64>, b: Option<f64>) -> String {
    match (a, b) {
        (Some(a), Some(b)) if b > 0.0 => format!("{:.2}×", a / b),
        _ => "–".to_owned(),
    }
}

/// A yardstick that fails misses its turn, and says so; ours fails the job.
pub(crate) fn excuse(name: &str, is_yardstick: bool, outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(error) if is_yardstick => {
            eprintln!("  {name} misses this turn: {error:#}");
            Ok(())
        }
        outcome => outcome.with_context(|| format!("{name} failed")),
    }
}
