//! What the kernel counts of a process and its descendants: CPU time, memory.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// `USER_HZ`: what one of /proc's clock ticks is, on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug, Clone, Copy)]
struct Stat {
    parent: i32,
    ticks: u64,
    of_the_dead: u64,
}

/// CPU time of a process and all its descendants, those that have ended included.
pub(crate) fn cpu(pid: i32) -> Result<Duration> {
    let all = all()?;
    let own = all.get(&pid).with_context(|| format!("process {pid} is gone"))?;
    let ticks: u64 =
        own.ticks + own.of_the_dead + descendants(&all, pid).map(|stat| stat.ticks + stat.of_the_dead).sum::<u64>();
    Ok(Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND))
}

/// CPU time of this process.
pub(crate) fn own_cpu() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let stat = parse(&stat).context("cannot read /proc/self/stat")?;
    Ok(Duration::from_secs_f64(stat.ticks as f64 / TICKS_PER_SECOND))
}

/// Resident memory of a process, in KiB.
pub(crate) fn resident_kib(pid: i32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}

fn all() -> Result<HashMap<i32, Stat>> {
    let mut all = HashMap::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that has ended in the meantime is no more to be read.
        let stat = fs::read_to_string(entry.path().join("stat")).ok();
        if let Some(stat) = stat.as_deref().and_then(parse) {
            all.insert(pid, stat);
        }
    }
    Ok(all)
}

/// Of `PID (NAME) STATE PARENT …`; a name may hold anything.
fn parse(stat: &str) -> Option<Stat> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        ticks: number(11)? + number(12)?,
        of_the_dead: number(13)? + number(14)?,
    })
}

fn descendants(all: &HashMap<i32, Stat>, ancestor: i32) -> impl Iterator<Item = Stat> {
    all.iter().filter(move |(pid, _)| **pid != ancestor && is_below(all, **pid, ancestor)).map(|(_, stat)| *stat)
}

fn is_below(all: &HashMap<i32, Stat>, pid: i32, ancestor: i32) -> bool {
    let parents = std::iter::successors(Some(pid), |pid| all.get(pid).map(|stat| stat.parent));
    parents.take(64).any(|parent| parent == ancestor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_name_may_hold_any_character() {
        let stat = parse("7 (a) b) S 3 7 7 0 -1 4194304 1 0 0 0 11 5 2 1 20 0").unwrap();
        assert_eq!((stat.parent, stat.ticks, stat.of_the_dead), (3, 16, 3));
    }

    #[test]
    fn work_increases_cpu_time() {
        let before = own_cpu().unwrap();
        let mut sum = 0_u64;
        while own_cpu().unwrap() < before + Duration::from_millis(20) {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(cpu(std::process::id().cast_signed()).unwrap() >= before + Duration::from_millis(20));
        assert!(resident_kib(std::process::id().cast_signed()).unwrap() > 100);
    }
}
