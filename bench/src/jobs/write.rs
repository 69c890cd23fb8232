//! `POST /chat/send` → row on disk → event in Redis: as fast as it goes, and at a tenth of that.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::api_targets::ApiTarget;
use crate::backends::Backends;
use crate::figures::{Samples, short};
use crate::gateway_targets::pairs;
use crate::jobs::{RunOptions, pgbench, ratio, skip_failed_baseline};
use crate::load::sends::Senders;
use crate::participants::Pair;
use crate::report::Table;
use crate::server::{Cpu, Server, dying_with_us, free_address};

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
pub(crate) fn run(options: &RunOptions, backends: &Backends) -> Result<Vec<Table>> {
    // Its API service is idle but for the line through HAProxy; its PostgreSQL and Redis serve all.
    let system = Backends::with_services(1, 1)?;
    let mut all: Vec<_> = options.writers.iter().map(|writer| (writer, Figures::default())).collect();
    let mut scripts = pgbench::scripts();
    let mut ceiling = Samples::default();
    for round in 1..=options.rounds {
        for (writer, figures) in &mut all {
            skip_failed_baseline(&writer.name(), writer.is_baseline(), turn(writer, options, &system, figures))?;
            let last = figures.per_second.last().map_or_else(String::new, short);
            eprintln!("  write, round {round}: {} {last} requests a second", writer.name());
        }
        for script in &mut scripts {
            script.run(backends, options.duration)?;
            let last = script.rate.last().map_or_else(String::new, short);
            eprintln!("  write, round {round}: {} {last} messages a second", script.name());
        }
        ceiling.push(generator(options.duration)?);
    }
    system.stop()?;
    pgbench::clean_up(backends)?;

    let ours =
        all.iter().find(|(writer, _)| **writer == ApiTarget::Ours).and_then(|(_, figures)| figures.per_second.median());
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
    for script in &scripts {
        let mut cells = vec![script.name(), script.rate.show(short), ratio(ours, script.rate.median())];
        cells.resize(table.columns.len(), "–".to_owned());
        table.rows.push(cells);
    }
    table.note(format!(
        "{CONNECTIONS} connections, each in a conversation of its own (*first messages*: each send in a new one), every send with a `client_message_id` of its own; through HAProxy, the CPU \
         of HAProxy counts as the server's. The generator: {} requests a CPU second of its own, against a server that does nothing.",
        ceiling.show(short)
    ));
    Ok(vec![table])
}

fn turn(writer: &ApiTarget, options: &RunOptions, system: &Backends, figures: &mut Figures) -> Result<()> {
    let pairs = pairs(CONNECTIONS)?;
    // The killed server of the last turn has left rows. The system's service would publish their events again, at Redis's expense.
    system.ask_postgres("TRUNCATE outbox")?;
    let running = writer.run(system, &pairs)?;
    let pairs = match writer {
        ApiTarget::OursFirstMessages => pairs.into_iter().map(Pair::with_new_patients).collect(),
        _ => pairs,
    };
    let mut senders = Senders::connect(&[running.address], &pairs, Instant::now())?;
    senders.at_full_speed(WARM_UP)?;
    let (before, wal_before) = (running.spent()?, wal_bytes(system)?);
    let sent = senders.at_full_speed(options.duration)?;
    let (after, wal_after) = (running.spent()?, wal_bytes(system)?);
    let rate = sent.answered as f64 / sent.elapsed.as_secs_f64();
    figures.per_second.push(rate);
    figures.p50.push(sent.ages.millis(0.5));
    figures.p99.push(sent.ages.millis(0.99));
    for (samples, micros) in figures.cpu.iter_mut().zip(after.micros_a_request(before, sent.answered)) {
        samples.push(micros);
    }
    figures.wal_bytes.push((wal_after - wal_before) / sent.answered as f64);
    let tenth = senders.at_rate(rate / 10.0, options.duration)?;
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
