//! Silent sockets: what one costs in memory and in CPU.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::backends::Backends;
use crate::figures::{Samples, short};
use crate::gateway_targets::{GatewayTarget, pairs};
use crate::jobs::{RunOptions, skip_failed_baseline};
use crate::load::client::ServerProtocol;
use crate::load::socket_pool::SocketPool;
use crate::report::Table;

const SOCKETS: usize = 10_000;
/// Where ours is looked at too: what a socket costs must not depend on how many there are.
const OTHER_COUNTS: [usize; 2] = [1_000, 15_000];
/// Our gateway pings a silent client every 25 s, so this holds one Ping of each.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// After the last handshake, for what was allocated for it to be given back.
const SETTLE: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Figures {
    kib: Samples,
    cpu: Samples,
}

/// The table.
pub(crate) fn run(options: &RunOptions, backends: &Backends) -> Result<Vec<Table>> {
    let sockets = options.sockets.unwrap_or(SOCKETS);
    let mut all: Vec<(GatewayTarget, usize, Figures)> = Vec::new();
    for relay in &options.relays {
        all.push((relay.clone(), sockets, Figures::default()));
        if *relay == GatewayTarget::Ours && options.sockets.is_none() {
            all.extend(OTHER_COUNTS.map(|sockets| (relay.clone(), sockets, Figures::default())));
        }
    }
    for round in 1..=options.rounds {
        for (relay, sockets, figures) in &mut all {
            let outcome = turn(relay, *sockets, round == 1, backends, figures);
            skip_failed_baseline(&relay.name(), relay.is_baseline(), outcome)?;
            let kib = figures.kib.last().map_or_else(String::new, short);
            eprintln!("  idle, round {round}: {} {kib} KiB a socket ({sockets})", relay.name());
        }
    }
    let ours =
        all.iter().find(|(relay, ..)| *relay == GatewayTarget::Ours).and_then(|(_, _, figures)| figures.kib.median());
    let mut table = Table::new(
        "idle",
        ["server", "sockets", "KiB of RSS a socket", "× ours", "CPU, ms a second and 10,000 sockets"],
    );
    for (relay, sockets, figures) in &all {
        table.row([
            relay.name(),
            sockets.to_string(),
            figures.kib.show(short),
            super::ratio(figures.kib.median(), ours),
            figures.cpu.show(short),
        ]);
    }
    table.note("Two sockets a conversation. Memory is that of the process with its sockets less that of the process without; the kernel's own buffers are not in it. CPU over 30 s, with the heartbeat's Pings in it.");
    Ok(vec![table])
}

fn turn(
    relay: &GatewayTarget,
    sockets: usize,
    is_first: bool,
    backends: &Backends,
    figures: &mut Figures,
) -> Result<()> {
    backends.flush_redis()?;
    let server = relay.start(backends)?;
    let pairs = pairs(sockets.div_ceil(2))?;
    let connect_targets = relay.connect_targets(server.address, &pairs, sockets, 2)?;
    let without = server.resident_kib()?;
    let mut pool = SocketPool::new(relay.protocol(), connect_targets, Instant::now())?;
    pool.open()?;
    pool.rest(SETTLE)?;
    let with = server.resident_kib()?;
    // Once is enough for what takes so long, and only ours has a heartbeat worth the wait.
    if is_first && relay.protocol() == ServerProtocol::Chat {
        let before = server.cpu()?;
        pool.rest(HEARTBEAT)?;
        let cpu = server.cpu()?.since(before);
        figures.cpu.push(cpu * 1_000.0 / HEARTBEAT.as_secs_f64() / sockets as f64 * 10_000.0);
    }
    anyhow::ensure!(pool.live() == sockets, "{} idle sockets were closed", sockets - pool.live());
    figures.kib.push(with.saturating_sub(without) as f64 / sockets as f64);
    Ok(())
}
