//! Connect, handshake with token and rights, first frame, close: how many a CPU second of the gateway.

use std::time::Instant;

use anyhow::Result;

use crate::backends::Backends;
use crate::figures::{Samples, short};
use crate::gateway_targets::{GatewayTarget, pairs};
use crate::jobs::{RunOptions, ratio, skip_failed_baseline};
use crate::load::socket_pool::SocketPool;
use crate::report::Table;
use crate::server::Cpu;

/// Sockets that take turns; a tenth of them at most is open at a time.
const SOCKETS: usize = 2_000;

#[derive(Default)]
struct Figures {
    per_cpu_second: Samples,
    per_second: Samples,
    ceiling: Samples,
}

/// The table.
pub(crate) fn run(options: &RunOptions, backends: &Backends) -> Result<Vec<Table>> {
    let mut all: Vec<_> = options.relays.iter().map(|relay| (relay, Figures::default())).collect();
    for round in 1..=options.rounds {
        for (relay, figures) in &mut all {
            skip_failed_baseline(&relay.name(), relay.is_baseline(), turn(relay, options, backends, figures))?;
            let last = figures.per_cpu_second.last().map_or_else(String::new, short);
            eprintln!("  handshake, round {round}: {} {last} handshakes a CPU second", relay.name());
        }
    }
    let ours = all
        .iter()
        .find(|(relay, _)| **relay == GatewayTarget::Ours)
        .and_then(|(_, figures)| figures.per_cpu_second.median());
    let mut table = Table::new("handshake", ["server", "handshakes a CPU second", "ours is", "handshakes a second"]);
    for (relay, figures) in &all {
        table.row([
            relay.name(),
            figures.per_cpu_second.show(short),
            ratio(ours, figures.per_cpu_second.median()),
            figures.per_second.show(short),
        ]);
    }
    let ceiling = all.iter().filter_map(|(_, figures)| figures.ceiling.median()).fold(0.0, f64::max);
    table.note(format!(
        "TCP connection, handshake, first frame where there is one, closing handshake. Ours verifies an HS256 token and opens the \
         conversation's log in Redis; the others accept every client. The generator did up to {} a CPU second of its own.",
        short(ceiling)
    ));
    Ok(vec![table])
}

fn turn(relay: &GatewayTarget, options: &RunOptions, backends: &Backends, figures: &mut Figures) -> Result<()> {
    backends.flush_redis()?;
    let server = relay.start(backends)?;
    let connect_targets = relay.connect_targets(server.address, &pairs(SOCKETS / 2)?, SOCKETS, 2)?;
    let mut pool = SocketPool::new(relay.protocol(), connect_targets, Instant::now())?;
    let (before, own_before) = (server.cpu()?, Cpu::own()?);
    let churned = pool.churn(options.duration)?;
    let opened = churned.opened as f64;
    figures.per_cpu_second.push(opened / server.cpu()?.since(before));
    figures.per_second.push(opened / churned.elapsed.as_secs_f64());
    figures.ceiling.push(opened / Cpu::own()?.since(own_before));
    Ok(())
}
