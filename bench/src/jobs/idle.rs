//! Sockets that nobody says anything to: what one costs in memory and in CPU.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::backends::Backends;
use crate::figures::{Samples, short};
use crate::jobs::{Terms, excuse};
use crate::load::client::Dialect;
use crate::load::fleet::Fleet;
use crate::relays::{Relay, pairs};
use crate::report::Table;

const SOCKETS: usize = 10_000;
/// Where ours is looked at too: what a socket costs must not depend on how many there are.
const ALSO: [usize; 2] = [1_000, 15_000];
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
pub(crate) fn run(terms: &Terms, backends: &Backends) -> Result<Vec<Table>> {
    let sockets = terms.sockets.unwrap_or(SOCKETS);
    let mut all: Vec<(Relay, usize, Figures)> = Vec::new();
    for relay in &terms.relays {
        all.push((relay.clone(), sockets, Figures::default()));
        if *relay == Relay::Ours && terms.sockets.is_none() {
            all.extend(ALSO.map(|sockets| (relay.clone(), sockets, Figures::default())));
        }
    }
    for round in 1..=terms.rounds {
        for (relay, sockets, figures) in &mut all {
            let outcome = turn(relay, *sockets, round == 1, backends, figures);
            excuse(&relay.name(), relay.is_yardstick(), outcome)?;
            let kib = figures.kib.last().map_or_else(String::new, short);
            eprintln!("  idle, round {round}: {} {kib} KiB a socket ({sockets})", relay.name());
        }
    }
    let ours = all.iter().find(|(relay, ..)| *relay == Relay::Ours).and_then(|(_, _, figures)| figures.kib.median());
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

fn turn(relay: &Relay, sockets: usize, is_first: bool, backends: &Backends, figures: &mut Figures) -> Result<()> {
    backends.flush_redis()?;
    let server = relay.start(backends)?;
    let pairs = pairs(sockets.div_ceil(2))?;
    let openings = relay.openings(server.address, &pairs, sockets, 2)?;
    let without = server.resident_kib()?;
    let mut fleet = Fleet::new(relay.dialect(), openings, Instant::now())?;
    fleet.open()?;
    fleet.rest(SETTLE)?;
    let with = server.resident_kib()?;
    // Once is enough for what takes so long, and only ours has a heartbeat worth the wait.
    if is_first && relay.dialect() == Dialect::Chat {
        let before = server.cpu()?;
        fleet.rest(HEARTBEAT)?;
        let cpu = server.cpu()?.since(before);
        figures.cpu.push(cpu * 1_000.0 / HEARTBEAT.as_secs_f64() / sockets as f64 * 10_000.0);
    }
    anyhow::ensure!(fleet.live() == sockets, "{} idle sockets were closed", sockets - fleet.live());
    figures.kib.push(with.saturating_sub(without) as f64 / sockets as f64);
    Ok(())
}
