//! What each process holds over time.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result};
use stack::StackEnv;

/// Growth that is still flat: an allocator keeps what it was given for a peak, and that moves by some megabytes.
const TOLERANCE: f64 = 0.10;
const TOLERANCE_KIB: f64 = 4.0 * 1024.0;
/// The services, as the table names them.
const COLUMNS: [&str; 4] = ["api-1", "api-2", "gateway-1", "gateway-2"];

/// One look at all services, in KiB of resident memory and in open descriptors.
#[derive(Debug, Clone)]
struct Sample {
    at: Duration,
    actions: u64,
    resident_kib: Vec<f64>,
    descriptors: Vec<usize>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Samples(Vec<Sample>);

impl Samples {
    pub(super) fn print_head() {
        println!("{:>8} {:>10} resident MiB of {} (open descriptors)", "minute", "actions", COLUMNS.join(", "));
    }

    pub(super) fn take(&mut self, env: &StackEnv, at: Duration, actions: u64) -> Result<()> {
        let pids = || env.api_pids.iter().chain(&env.gateway_pids);
        let resident_kib = pids().map(|pid| resident_kib(*pid)).collect::<Result<Vec<_>>>()?;
        let descriptors = pids().map(|pid| descriptors(*pid)).collect::<Result<Vec<_>>>()?;
        let sample = Sample { at, actions, resident_kib, descriptors };
        let cells = sample.resident_kib.iter().zip(&sample.descriptors);
        let cells: Vec<String> = cells.map(|(kib, open)| format!("{:.1} ({open})", kib / 1024.0)).collect();
        println!("{:>8.1} {:>10} {}", at.as_secs_f64() / 60.0, actions, cells.join("  "));
        self.0.push(sample);
        Ok(())
    }

    /// Whether no service holds more in the last quarter than in the second. The first fills caches and pools.
    pub(super) fn are_flat(&self) -> bool {
        self.growth().iter().all(|(early, late)| late - early <= (early * TOLERANCE).max(TOLERANCE_KIB))
    }

    /// The median of the second quarter and that of the last, for each service.
    fn growth(&self) -> Vec<(f64, f64)> {
        let quarter = self.0.len() / 4;
        let of =
            |samples: &[Sample], service: usize| median(samples.iter().map(|it| it.resident_kib[service]).collect());
        let services = self.0.first().map_or(0, |sample| sample.resident_kib.len());
        (0..services)
            .map(|service| (of(&self.0[quarter..quarter * 2], service), of(&self.0[quarter * 3..], service)))
            .collect()
    }

    pub(super) fn to_markdown(&self) -> String {
        let mut text = String::from("| service | second quarter, MiB | last quarter, MiB |\n| --- | ---: | ---: |\n");
        for (name, (early, late)) in COLUMNS.iter().zip(self.growth()) {
            let _infallible = writeln!(text, "| {name} | {:.1} | {:.1} |", early / 1024.0, late / 1024.0);
        }
        if let Some(last) = self.0.last() {
            let minutes = last.at.as_secs_f64() / 60.0;
            let _infallible = writeln!(text, "\n{} actions in {minutes:.0} minutes", last.actions);
        }
        text
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// What a process holds in memory.
fn resident_kib(pid: i32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process has resident memory")?;
    line.split_whitespace().next().and_then(|number| number.parse().ok()).context("a number of KiB")
}

fn descriptors(pid: i32) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(kib: impl Fn(u64) -> f64) -> Samples {
        let sample = |minute: u64| Sample {
            at: Duration::from_secs(minute * 60),
            actions: minute,
            resident_kib: vec![50_000.0, kib(minute)],
            descriptors: vec![1, 1],
        };
        Samples((0..60).map(sample).collect())
    }

    #[test]
    fn warm_caches_are_flat_and_leak_is_not() {
        assert!(samples(|minute| 40_000.0 + 20_000.0 * (minute.min(10) as f64)).are_flat());
        assert!(!samples(|minute| 50_000.0 + 400.0 * minute as f64).are_flat());
    }

    #[test]
    fn own_process_has_memory_and_descriptors() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(resident_kib(own).unwrap() > 0.0 && descriptors(own).unwrap() > 0);
    }
}
