//! Redis event → sockets. `chat`: pairs, every event to two sockets, at full speed and at half of it. `broadcast`: one
//! channel with all sockets, at full speed.

use std::cell::Cell;

use anyhow::Result;

use crate::backends::Backends;
use crate::figures::{Samples, short};
use crate::gateway_targets::{GatewayTarget, Running};
use crate::jobs::{RunOptions, ratio, skip_failed_baseline};
use crate::load::socket_pool::{LoadMode, LoadResult};
use crate::report::Table;
use crate::server::Cpu;

const CHAT_SOCKETS: usize = 5_000;
const BROADCAST_SOCKETS: usize = 1_000;
/// Events on their way at full speed: in `chat` less than there are pairs, so that no socket has two frames to write at once.
const CHAT_ON_THEIR_WAY: usize = 1_000;
const BROADCAST_ON_THEIR_WAY: usize = 100;

#[derive(Default)]
struct Figures {
    per_cpu_second: Samples,
    per_second: Samples,
    full_p50: Samples,
    full_p99: Samples,
    half_p50: Samples,
    half_p99: Samples,
    half_per_cpu_second: Samples,
    lost: u64,
    skipped: u64,
    /// Of the generator: deliveries a second of its own CPU time, and its CPU seconds a second.
    taken: Samples,
    busy: Samples,
}

/// The two tables.
pub(crate) fn run(options: &RunOptions, backends: &Backends) -> Result<Vec<Table>> {
    Ok(vec![chat(options, backends)?, broadcast(options, backends)?])
}

fn chat(options: &RunOptions, backends: &Backends) -> Result<Table> {
    let sockets = options.sockets.unwrap_or(CHAT_SOCKETS);
    let on_their_way = CHAT_ON_THEIR_WAY.min(sockets / 5);
    let figures = rounds(options, "chat", |relay, figures| {
        let mut running = relay.run(backends, sockets, 2)?;
        let full = measure(&mut running, LoadMode::Full { on_their_way }, 2, options, figures)?;
        let rate = full.published as f64 / full.elapsed.as_secs_f64() / 2.0;
        let Running { server, pool, publisher, .. } = &mut running;
        let (before, after) = (server.cpu()?, Cell::new(None));
        let half = pool.run_load(publisher, LoadMode::Rate(rate), 2, options.duration, || {
            after.set(Some(server.cpu()?));
            Ok(())
        })?;
        let cpu = after.get().map_or(f64::NAN, |after| after.since(before));
        figures.half_per_cpu_second.push(half.delivered_meanwhile as f64 / cpu);
        figures.half_p50.push(half.counts.ages.millis(0.5));
        figures.half_p99.push(half.counts.ages.millis(0.99));
        figures.lost += half.lost;
        figures.skipped += half.counts.skipped;
        Ok(())
    })?;
    let mut table = Table::new(
        "relay-chat",
        [
            "server",
            "deliveries a CPU second",
            "ours is",
            "deliveries a second",
            "p99 full, ms",
            "half load: p50, ms",
            "p99, ms",
            "a CPU second",
            "lost",
            "gaps",
        ],
    );
    let ours = ours(&figures);
    for (relay, figures) in &figures {
        let millis = |samples: &Samples| samples.show(short);
        table.row([
            relay.name(),
            figures.per_cpu_second.show(short),
            ratio(ours, figures.per_cpu_second.median()),
            figures.per_second.show(short),
            millis(&figures.full_p99),
            millis(&figures.half_p50),
            millis(&figures.half_p99),
            figures.half_per_cpu_second.show(short),
            figures.lost.to_string(),
            figures.skipped.to_string(),
        ]);
    }
    table.note(format!(
        "{sockets} sockets in pairs, every event to two of them, {on_their_way} events on their way at full speed. {}",
        ceiling(&figures)
    ));
    Ok(table)
}

fn broadcast(options: &RunOptions, backends: &Backends) -> Result<Table> {
    let sockets = options.sockets.unwrap_or(BROADCAST_SOCKETS);
    let figures = rounds(options, "broadcast", |relay, figures| {
        let mut running = relay.run(backends, sockets, sockets)?;
        let mode = LoadMode::Full { on_their_way: BROADCAST_ON_THEIR_WAY };
        measure(&mut running, mode, sockets, options, figures).map(drop)
    })?;
    let mut table = Table::new(
        "relay-broadcast",
        ["server", "deliveries a CPU second", "ours is", "deliveries a second", "p50, ms", "p99, ms", "lost", "gaps"],
    );
    let ours = ours(&figures);
    for (relay, figures) in &figures {
        table.row([
            relay.name(),
            figures.per_cpu_second.show(short),
            ratio(ours, figures.per_cpu_second.median()),
            figures.per_second.show(short),
            figures.full_p50.show(short),
            figures.full_p99.show(short),
            figures.lost.to_string(),
            figures.skipped.to_string(),
        ]);
    }
    table.note(format!(
        "{sockets} sockets on one channel, {BROADCAST_ON_THEIR_WAY} events on their way. {}",
        ceiling(&figures)
    ));
    Ok(table)
}

/// Every peer in its turn, so that a noisy minute of the machine falls on all of them.
fn rounds(
    options: &RunOptions,
    what: &str,
    turn: impl Fn(&GatewayTarget, &mut Figures) -> Result<()>,
) -> Result<Vec<(GatewayTarget, Figures)>> {
    let mut all: Vec<_> = options.relays.iter().map(|relay| (relay.clone(), Figures::default())).collect();
    for round in 1..=options.rounds {
        for (relay, figures) in &mut all {
            skip_failed_baseline(&relay.name(), relay.is_baseline(), turn(relay, figures))?;
            let last = figures.per_cpu_second.last().map_or_else(String::new, short);
            eprintln!("  {what}, round {round}: {} {last} deliveries a CPU second", relay.name());
        }
    }
    Ok(all)
}

/// Full speed.
fn measure(
    running: &mut Running,
    mode: LoadMode,
    fan_out: usize,
    options: &RunOptions,
    figures: &mut Figures,
) -> Result<LoadResult> {
    let Running { server, pool, publisher, .. } = running;
    let (before, own_before) = (server.cpu()?, Cpu::own()?);
    let after = Cell::new(None);
    let result = pool.run_load(publisher, mode, fan_out, options.duration, || {
        after.set(Some((server.cpu()?, Cpu::own()?)));
        Ok(())
    })?;
    if let Some((after, own_after)) = after.get() {
        let delivered = result.delivered_meanwhile as f64;
        figures.per_cpu_second.push(delivered / after.since(before));
        figures.per_second.push(delivered / result.elapsed.as_secs_f64());
        let own = own_after.since(own_before);
        figures.taken.push(delivered / own);
        figures.busy.push(own / result.elapsed.as_secs_f64());
    }
    figures.full_p50.push(result.counts.ages.millis(0.5));
    figures.full_p99.push(result.counts.ages.millis(0.99));
    figures.lost += result.lost;
    figures.skipped += result.counts.skipped;
    Ok(result)
}

fn ours(figures: &[(GatewayTarget, Figures)]) -> Option<f64> {
    figures.iter().find(|(relay, _)| *relay == GatewayTarget::Ours)?.1.per_cpu_second.median()
}

/// What the generator has shown that it can take, and how near it was to its own end.
fn ceiling(figures: &[(GatewayTarget, Figures)]) -> String {
    let most = |samples: fn(&Figures) -> &Samples| {
        figures.iter().filter_map(|(_, figures)| samples(figures).median()).fold(0.0, f64::max)
    };
    format!(
        "Ours has one thread (`WORKER_THREADS=1`). The generator, publishing included, took up to {} deliveries a CPU second of its own, and was busy for {:.0} % of a core at most.",
        short(most(|figures| &figures.taken)),
        most(|figures| &figures.busy) * 100.0
    )
}
