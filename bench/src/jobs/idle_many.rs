//! More idle sockets than one process may have: several gateways, and a holder process for the sockets of each.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::backends::Backends;
use crate::figures::{Samples, short};
use crate::gateway_targets::GatewayTarget;
use crate::load::client::ServerProtocol;
use crate::load::socket_pool::SocketPool;
use crate::participants::Pair;
use crate::report::Table;
use crate::server::{Server, dying_with_us, free_address};

/// Holds one Ping of each socket, which come every 25 s.
const WINDOW: Duration = Duration::from_secs(30);

/// The table.
pub(crate) fn run(sockets: usize, gateways: usize, backends: &Backends) -> Result<Vec<Table>> {
    let (mut kib, mut cpu) = (Samples::default(), Samples::default());
    backends.flush_redis()?;
    let servers = (0..gateways).map(|_| GatewayTarget::Ours.start(backends)).collect::<Result<Vec<_>>>()?;
    let without = resident_kib(&servers)?;
    let each = sockets / gateways;
    let mut holders = Vec::new();
    for (number, server) in servers.iter().enumerate() {
        let mut command = dying_with_us(&std::env::current_exe()?);
        let (address, sockets, first) = (server.address.to_string(), each.to_string(), (number * each).to_string());
        command.args(["hold", "--address", &address, "--sockets", &sockets, "--first", &first]);
        holders.push(Server::start_saying_ready(command, free_address()?, "a holder of sockets")?);
    }
    let held = each * gateways;
    kib.push((resident_kib(&servers)? - without) / held as f64);
    let before = servers.iter().map(Server::cpu).collect::<Result<Vec<_>>>()?;
    std::thread::sleep(WINDOW);
    for (server, before) in servers.iter().zip(before) {
        cpu.push(server.cpu()?.since(before) / WINDOW.as_secs_f64() * 100.0);
    }
    drop(holders);
    let mut table =
        Table::new("idle-many", ["gateways", "sockets", "KiB of RSS a socket", "CPU of a gateway, % of a core"]);
    table.row([gateways.to_string(), held.to_string(), kib.show(short), cpu.show(short)]);
    table.note("One round; CPU over 30 s, with the heartbeat's Pings in it.");
    Ok(vec![table])
}

/// Holds sockets open until it is killed: what a holder process does.
pub(crate) fn hold(address: SocketAddr, first: usize, sockets: usize) -> Result<()> {
    let pairs = (first..first + sockets.div_ceil(2)).map(Pair::new).collect::<Result<Vec<_>>>()?;
    let connect_targets = GatewayTarget::Ours.connect_targets(address, &pairs, sockets, 2)?;
    let mut pool = SocketPool::new(ServerProtocol::Chat, connect_targets, Instant::now())?;
    pool.open()?;
    println!("ready");
    loop {
        pool.rest(Duration::from_secs(1))?;
        anyhow::ensure!(pool.live() == sockets, "{} sockets were closed", sockets - pool.live());
    }
}

fn resident_kib(servers: &[Server]) -> Result<f64> {
    servers.iter().map(|server| Ok(server.resident_kib()? as f64)).sum()
}
