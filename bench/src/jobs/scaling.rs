//! The same work with more instances: what each further gateway and API service costs.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::backends::Backends;
use crate::figures::{Samples, short};
use crate::gateway_targets::{GatewayTarget, pairs, scripted};
use crate::jobs::{RunOptions, ratio};
use crate::load::client::ServerProtocol;
use crate::load::sends::Senders;
use crate::load::socket_pool::{LoadMode, SocketPool};
use crate::report::Table;
use crate::server::{Cpu, Server, binaries};

/// Light enough for one core, so that nothing waits and only the work counts.
const SOCKETS: usize = 5_000;
const EVENTS_PER_SECOND: f64 = 8_000.0;
const CONNECTIONS: usize = 64;
const SENDS_PER_SECOND: f64 = 2_000.0;

/// CPU time an event or a send, in microseconds.
#[derive(Default)]
struct Figures {
    instances: Samples,
    redis: Samples,
    postgres: Samples,
}

/// Both tables.
pub(crate) fn run(options: &RunOptions, backends: &Backends) -> Result<Vec<Table>> {
    let mut gateways: [Figures; 3] = Default::default();
    let mut apis: [Figures; 2] = Default::default();
    for round in 1..=options.rounds {
        for (further, figures) in gateways.iter_mut().enumerate() {
            relay(further + 1, options, backends, figures)?;
        }
        for (further, figures) in apis.iter_mut().enumerate() {
            send(further + 1, options, backends, figures)?;
        }
        eprintln!("  scaling, round {round}: done");
    }
    let mut relayed = table("scaling-gateways", "gateways", "CPU of all gateways, µs an event", &gateways, false);
    relayed.note(format!(
        "{EVENTS_PER_SECOND} events a second to {SOCKETS} sockets in pairs; with several gateways the two of a pair are at different ones, so that \
         every event goes to two gateways: the worst case."
    ));
    let mut sent = table("scaling-api", "API services", "CPU of all API services, µs a send", &apis, true);
    sent.note(format!(
        "{SENDS_PER_SECOND} sends a second over {CONNECTIONS} connections, which take turns between the instances."
    ));
    Ok(vec![relayed, sent])
}

fn table(job: &'static str, what: &str, cpu: &str, all: &[Figures], has_postgres: bool) -> Table {
    let mut table = Table::new(job, [what, cpu, "to one instance", "of Redis", "of PostgreSQL"]);
    let one = all.first().and_then(|figures| figures.instances.median());
    for (further, figures) in all.iter().enumerate() {
        let postgres = if has_postgres { figures.postgres.show(short) } else { "–".to_owned() };
        let to_one = ratio(figures.instances.median(), one);
        table.row([
            (further + 1).to_string(),
            figures.instances.show(short),
            to_one,
            figures.redis.show(short),
            postgres,
        ]);
    }
    table
}

fn relay(count: usize, options: &RunOptions, backends: &Backends, figures: &mut Figures) -> Result<()> {
    backends.flush_redis()?;
    let servers = (0..count).map(|_| GatewayTarget::Ours.start(backends)).collect::<Result<Vec<_>>>()?;
    let pairs = pairs(SOCKETS / 2)?;
    let mut connect_targets = GatewayTarget::Ours.connect_targets(servers[0].address, &pairs, SOCKETS, 2)?;
    for (number, target) in connect_targets.iter_mut().enumerate() {
        target.address = servers[(number / 2 + number % 2) % count].address;
    }
    let mut pool = SocketPool::new(ServerProtocol::Chat, connect_targets, Instant::now())?;
    pool.open()?;
    let mut publisher = scripted(backends, &pairs)?;
    pool.warm_up(&mut publisher)?;
    let (before, redis_before) = (spent(&servers)?, Cpu::of(backends.redis_pid)?);
    let after = Cell::new((f64::NAN, f64::NAN));
    let result = pool.run_load(&mut publisher, LoadMode::Rate(EVENTS_PER_SECOND), 2, options.duration, || {
        after.set((spent(&servers)? - before, Cpu::of(backends.redis_pid)?.since(redis_before)));
        Ok(())
    })?;
    anyhow::ensure!(result.lost == 0, "{} deliveries were lost", result.lost);
    let (instances, redis) = after.get();
    figures.instances.push(instances * 1e6 / result.published as f64);
    figures.redis.push(redis * 1e6 / result.published as f64);
    Ok(())
}

fn send(count: usize, options: &RunOptions, backends: &Backends, figures: &mut Figures) -> Result<()> {
    let binary = binaries()?.join("api-service");
    let servers = (0..count).map(|_| Server::of_ours(&binary, backends, &[])).collect::<Result<Vec<_>>>()?;
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    let mut senders = Senders::connect(&addresses, &pairs(CONNECTIONS)?, Instant::now())?;
    senders.at_rate(SENDS_PER_SECOND, Duration::from_secs(1))?;
    let before = (spent(&servers)?, Cpu::of(backends.redis_pid)?, Cpu::of(backends.postgres_pid)?);
    let sent = senders.at_rate(SENDS_PER_SECOND, options.duration)?;
    let each = |seconds: f64| seconds * 1e6 / sent.answered as f64;
    figures.instances.push(each(spent(&servers)? - before.0));
    figures.redis.push(each(Cpu::of(backends.redis_pid)?.since(before.1)));
    figures.postgres.push(each(Cpu::of(backends.postgres_pid)?.since(before.2)));
    Ok(())
}

fn spent(servers: &[Server]) -> Result<f64> {
    servers.iter().map(|server| Ok(server.cpu()?.seconds())).sum()
}
