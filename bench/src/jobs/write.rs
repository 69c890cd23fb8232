//! `POST /chat/send` → row on disk → event in Redis: as fast as it goes, and at a tenth of that.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::backends::{Backends, postgres_program};
use crate::figures::{Samples, short};
use crate::jobs::{Terms, ratio};
use crate::load::http::Senders;
use crate::relays::pairs;
use crate::report::Table;
use crate::server::{Cpu, Server, dying_with_us, free_address, yardsticks};
use crate::writers::Writer;

/// Each busy all the time, in a conversation of its own.
const CONNECTIONS: usize = 64;
/// For a fresh server to open its connections and compile what it compiles.
const WARM_UP: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Figures {
    per_second: Samples,
    p50: Samples,
    p99: Samples,
    cpu: [Samples; 3],
    wal_bytes: Samples,
    tenth_p50: Samples,
    tenth_p99: Samples,
}

/// The table.
pub(crate) fn run(terms: &Terms) -> Result<Vec<Table>> {
    // Its API service is idle but for the line through HAProxy; its PostgreSQL and Redis serve all.
    let system = Backends::with_services(1, 1)?;
    let mut all: Vec<_> = terms.writers.iter().map(|writer| (writer, Figures::default())).collect();
    let scripts = pgbench_scripts()?;
    let mut pgbench: Vec<_> = scripts.iter().map(|script| (script, Samples::default())).collect();
    let mut ceiling = Samples::default();
    for round in 1..=terms.rounds {
        for (writer, figures) in &mut all {
            turn(writer, terms, &system, figures)?;
            let last = figures.per_second.last().map_or_else(String::new, short);
            eprintln!("  write, round {round}: {} {last} requests a second", writer.name());
        }
        for (script, samples) in &mut pgbench {
            samples.push(script.run(&system, terms.duration)?);
            let last = samples.last().map_or_else(String::new, short);
            eprintln!("  write, round {round}: {} {last} transactions a second", script.name);
        }
        ceiling.push(generator(terms.duration)?);
    }
    system.stop()?;

    let ours =
        all.iter().find(|(writer, _)| **writer == Writer::Ours).and_then(|(_, figures)| figures.per_second.median());
    let mut table = Table::new(
        "write",
        [
            "server",
            "requests a second",
            "ours is",
            "p50, ms",
            "p99, ms",
            "CPU of the server, µs a request",
            "of PostgreSQL",
            "of Redis",
            "WAL bytes a request",
            "a tenth of the load: p50, ms",
            "p99, ms",
        ],
    );
    for (writer, figures) in &all {
        let [server, postgres, redis] = &figures.cpu;
        table.row([
            writer.name(),
            figures.per_second.show(short),
            ratio(ours, figures.per_second.median()),
            figures.p50.show(short),
            figures.p99.show(short),
            server.show(short),
            postgres.show(short),
            redis.show(short),
            figures.wal_bytes.show(short),
            figures.tenth_p50.show(short),
            figures.tenth_p99.show(short),
        ]);
    }
    for (script, samples) in &pgbench {
        let empty = || "–".to_owned();
        let (name, rate) = (script.name.clone(), samples.show(short));
        table.row([
            name,
            rate,
            ratio(ours, samples.median()),
            empty(),
            empty(),
            empty(),
            empty(),
            empty(),
            empty(),
            empty(),
            empty(),
        ]);
    }
    table.note(format!(
        "{CONNECTIONS} connections, each in a conversation of its own, every send with a `client_message_id` of its own; through HAProxy, the CPU \
         of HAProxy counts as the server's. The generator: {} requests a CPU second of its own, against a server that does nothing.",
        ceiling.show(short)
    ));
    Ok(vec![table])
}

fn turn(writer: &Writer, terms: &Terms, system: &Backends, figures: &mut Figures) -> Result<()> {
    let running = writer.run(system)?;
    let mut senders = Senders::connect(&[running.address], &pairs(CONNECTIONS)?, Instant::now())?;
    senders.at_full_speed(WARM_UP)?;
    let (before, wal_before) = (running.spent()?, wal_bytes(system)?);
    let sent = senders.at_full_speed(terms.duration)?;
    let (after, wal_after) = (running.spent()?, wal_bytes(system)?);
    let rate = sent.answered as f64 / sent.elapsed.as_secs_f64();
    figures.per_second.push(rate);
    figures.p50.push(sent.ages.millis(0.5));
    figures.p99.push(sent.ages.millis(0.99));
    for (samples, micros) in figures.cpu.iter_mut().zip(after.micros_a_request(before, sent.answered)) {
        samples.push(micros);
    }
    figures.wal_bytes.push((wal_after - wal_before) / sent.answered as f64);
    let tenth = senders.at_rate(rate / 10.0, terms.duration)?;
    figures.tenth_p50.push(tenth.ages.millis(0.5));
    figures.tenth_p99.push(tenth.ages.millis(0.99));
    Ok(())
}

fn wal_bytes(system: &Backends) -> Result<f64> {
    Ok(system.ask_postgres("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")?.parse()?)
}

/// Requests a second of the generator's own CPU time, against a server that does nothing.
fn generator(duration: Duration) -> Result<f64> {
    let address = free_address()?;
    let mut command = dying_with_us(&std::env::current_exe()?);
    command.args(["respond", "--address", &address.to_string()]);
    let _responder = Server::start_saying_ready(command, address, "the responder")?;
    let mut senders = Senders::connect(&[address], &pairs(CONNECTIONS)?, Instant::now())?;
    let before = Cpu::own()?;
    let sent = senders.at_full_speed(duration / 2)?;
    Ok(sent.answered as f64 / Cpu::own()?.since(before))
}

/// The database alone: one script of bench/yardsticks/pgbench.
struct Script {
    name: String,
    path: std::path::PathBuf,
    schema: std::path::PathBuf,
}

/// The scripts; each file but the schema is one.
fn pgbench_scripts() -> Result<Vec<Script>> {
    let folder = yardsticks()?.join("pgbench");
    let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(Vec::new()) };
    let schema = folder.join("schema.sql");
    let mut scripts: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql") && *path != schema)
        .map(|path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            Script { name: format!("pgbench: {name}"), schema: schema.clone(), path }
        })
        .collect();
    scripts.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(scripts)
}

impl Script {
    fn run(&self, system: &Backends, duration: Duration) -> Result<f64> {
        let made = postgres_program("psql")?
            .args(["-Xq", "-v", "ON_ERROR_STOP=1", "-d", &system.database_url, "-f"])
            .arg(&self.schema)
            .output()?;
        anyhow::ensure!(made.status.success(), "psql: {}", String::from_utf8_lossy(&made.stderr));
        let connections = CONNECTIONS.to_string();
        let output = postgres_program("pgbench")?
            .args(["-n", "-M", "prepared", "-j", "1", "-c", &connections, "-T", &duration.as_secs().to_string(), "-f"])
            .arg(&self.path)
            .arg(&system.database_url)
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        rate.with_context(|| format!("pgbench: {said}{}", String::from_utf8_lossy(&output.stderr)))
    }
}
