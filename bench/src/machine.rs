//! On what, with what and when it was measured: figures of another machine or day are comparable as ratios only.

use std::fs;
use std::process::Command;

use time::OffsetDateTime;
use time::macros::format_description;

/// A line or two of Markdown.
pub(crate) fn describe(rounds: usize, seconds: u64) -> String {
    let today = OffsetDateTime::now_utc().format(format_description!("[year]-[month]-[day]")).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let versions: Vec<String> = [
        crate::backends::postgres_program("postgres").ok().and_then(|mut command| said(command.arg("--version"))),
        said(Command::new("redis-server").arg("--version")).map(|text| format!("Redis {}", word_behind(&text, "v="))),
        said(Command::new("haproxy").arg("-v")).map(|text| format!("HAProxy {}", word_behind(&text, "version "))),
        said(Command::new("node").arg("--version")).map(|text| format!("Node.js {text}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    format!(
        "{today}, commit {}: {}, {cores} cores, {} of memory, Linux {}; {}. {rounds} rounds of {seconds} s, all in turn; the median, and in \
         parentheses the least and the most.",
        said(Command::new("git").args(["rev-parse", "--short", "HEAD"])).unwrap_or_else(|| "unknown".to_owned()),
        value_of("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        memory(),
        fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        versions.join(", "),
    )
}

/// The first line that a program prints.
fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(|line| line.trim().to_owned())
}

fn word_behind<'a>(text: &'a str, mark: &str) -> &'a str {
    text.split_once(mark).and_then(|(_, rest)| rest.split_whitespace().next()).unwrap_or_default()
}

/// The value of the first line `NAME : VALUE`.
fn value_of(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory() -> String {
    let kib = value_of("/proc/meminfo", "MemTotal").and_then(|text| text.trim_end_matches(" kB").parse::<f64>().ok());
    kib.map_or_else(|| "unknown size".to_owned(), |kib| format!("{:.0} GiB", kib / f64::from(1 << 20)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_reports_cores_and_memory() {
        let text = describe(3, 4);
        assert!(text.contains(" cores") && text.contains("GiB of memory") && text.contains("3 rounds"), "{text}");
    }

    #[test]
    fn versions_are_parsed_from_output() {
        assert_eq!(word_behind("Redis server v=7.0.15 sha=0", "v="), "7.0.15");
        assert_eq!(word_behind("HAProxy version 2.6.12-1 2023", "version "), "2.6.12-1");
    }
}
