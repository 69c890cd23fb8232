//! Redis event → sockets. `chat`: pairs, every event to two sockets, at full speed and at half of it. `broadcast`: one
//! channel with all sockets, at full speed.

use std::cell::Cell;

use anyhow::Result;

use crate::backends::Backends;
use crate::figures::{Samples, short};
use crate::jobs::{Terms, excuse, ratio};
use crate::load::fleet::{Flow, Flowed};
use crate::relays::{Relay, Running};
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
pub(crate) fn run(terms: &Terms, backends: &Backends) -> Result<Vec<Table>> {
    Ok(vec![chat(terms, backends)?, broadcast(terms, backends)?])
}

fn chat(terms: &Terms, backends: &Backends) -> Result<Table> {
    let sockets = terms.sockets.unwrap_or(CHAT_SOCKETS);
    let on_their_way = CHAT_ON_THEIR_WAY.min(sockets / 5);
    let figures = rounds(terms, "chat", |relay, figures| {
        let mut running = relay.run(backends, sockets, 2)?;
        let full = measure(&mut running, Flow::Full { on_their_way }, 2, terms, figures)?;
        let rate = full.published as f64 / full.elapsed.as_secs_f64() / 2.0;
        let Running { server, fleet, publisher, .. } = &mut running;
        let (before, after) = (server.cpu()?, Cell::new(None));
        let half = fleet.flow(publisher, Flow::Rate(rate), 2, terms.duration, || {
            after.set(Some(server.cpu()?));
            Ok(())
        })?;
        let cpu = after.get().map_or(f64::NAN, |after| after.since(before));
        figures.half_per_cpu_second.push(half.delivered_meanwhile as f64 / cpu);
        figures.half_p50.push(half.tally.ages.millis(0.5));
        figures.half_p99.push(half.tally.ages.millis(0.99));
        figures.lost += half.lost;
        figures.skipped += half.tally.skipped;
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

fn broadcast(terms: &Terms, backends: &Backends) -> Result<Table> {
    let sockets = terms.sockets.unwrap_or(BROADCAST_SOCKETS);
    let figures = rounds(terms, "broadcast", |relay, figures| {
        let mut running = relay.run(backends, sockets, sockets)?;
        let flow = Flow::Full { on_their_way: BROADCAST_ON_THEIR_WAY };
        measure(&mut running, flow, sockets, terms, figures).map(drop)
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
    terms: &Terms,
    what: &str,
    turn: impl Fn(&Relay, &mut Figures) -> Result<()>,
) -> Result<Vec<(Relay, Figures)>> {
    let mut all: Vec<_> = terms.relays.iter().map(|relay| (relay.clone(), Figures::default())).collect();
    for round in 1..=terms.rounds {
        for (relay, figures) in &mut all {
            excuse(&relay.name(), relay.is_yardstick(), turn(relay, figures))?;
            let last = figures.per_cpu_second.last().map_or_else(String::new, short);
            eprintln!("  {what}, round {round}: {} {last} deliveries a CPU second", relay.name());
        }
    }
    Ok(all)
}

/// Full speed.
fn measure(running: &mut Running, flow: Flow, fan_out: usize, terms: &Terms, figures: &mut Figures) -> Result<Flowed> {
    let Running { server, fleet, publisher, .. } = running;
    let (before, own_before) = (server.cpu()?, Cpu::own()?);
    let after = Cell::new(None);
    let flowed = fleet.flow(publisher, flow, fan_out, terms.duration, || {
        after.set(Some((server.cpu()?, Cpu::own()?)));
        Ok(())
    })?;
    if let Some((after, own_after)) = after.get() {
        let delivered = flowed.delivered_meanwhile as f64;
        figures.per_cpu_second.push(delivered / after.since(before));
        figures.per_second.push(delivered / flowed.elapsed.as_secs_f64());
        let own = own_after.since(own_before);
        figures.taken.push(delivered / own);
        figures.busy.push(own / flowed.elapsed.as_secs_f64());
    }
    figures.full_p50.push(flowed.tally.ages.millis(0.5));
    figures.full_p99.push(flowed.tally.ages.millis(0.99));
    figures.lost += flowed.lost;
    figures.skipped += flowed.tally.skipped;
    Ok(flowed)
}

fn ours(figures: &[(Relay, Figures)]) -> Option<f64> {
    figures.iter().find(|(relay, _)| *relay == Relay::Ours)?.1.per_cpu_second.median()
}

/// What the generator has shown that it can take, and how near it was to its own end.
fn ceiling(figures: &[(Relay, Figures)]) -> String {
    let most = |samples: fn(&Figures) -> &Samples| {
        figures.iter().filter_map(|(_, figures)| samples(figures).median()).fold(0.0, f64::max)
    };
    format!(
        "Ours has one thread (`WORKER_THREADS=1`). The generator, publishing included, took up to {} deliveries a CPU second of its own, and was busy for {:.0} % of a core at most.",
        short(most(|figures| &figures.taken)),
        most(|figures| &figures.busy) * 100.0
    )
}
