//! One gateway dies with all its sockets, and all of them resume at another: how long until everyone is live again, and whether
//! PostgreSQL noticed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::RngExt;
use shared::contract::participant::ParticipantKind;

use crate::backends::Backends;
use crate::figures::{Samples, short};
use crate::gateway_targets::{pairs, publish_unproven};
use crate::jobs::RunOptions;
use crate::load::client::{ConnectTarget, Phase, ServerProtocol};
use crate::load::socket_pool::SocketPool;
use crate::participants::address_of;
use crate::report::Table;

const SOCKETS: usize = 15_000;
/// Within which clients come back, each after a delay of its own: what the SDK does after an unexpected end.
const JITTER: Duration = Duration::from_secs(2);
/// For everyone to be live again.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What one storm gave.
struct Storm {
    first: Duration,
    all: Duration,
    resumed: usize,
    /// Transactions of PostgreSQL a second.
    transactions: f64,
    transactions_at_rest: f64,
}

/// The table.
pub(crate) fn run(options: &RunOptions) -> Result<Vec<Table>> {
    let sockets = options.sockets.unwrap_or(SOCKETS);
    let mut figures: [Samples; 5] = Default::default();
    for round in 1..=options.rounds {
        let storm = storm(sockets)?;
        let seconds = storm.all.as_secs_f64();
        let since_answer = storm.all.saturating_sub(storm.first).as_secs_f64();
        let resumed = storm.resumed as f64;
        let values = [seconds, since_answer, resumed, storm.transactions, storm.transactions_at_rest];
        figures.iter_mut().zip(values).for_each(|(samples, value)| samples.push(value));
        eprintln!("  storm, round {round}: all live after {seconds:.2} s");
    }
    let mut table = Table::new("storm", ["what", "measured"]);
    let [all, since_answer, resumed, queries, at_rest] = figures.map(|samples| samples.show(short));
    table.row(["sockets that were cut off".to_owned(), sockets.to_string()]);
    table.row(["until everyone was live again, s from the kill".to_owned(), all]);
    table.row(["the same from the first answer of the other gateway, s".to_owned(), since_answer]);
    table.row(["resumed with nothing missed".to_owned(), resumed]);
    table.row(["transactions of PostgreSQL a second meanwhile".to_owned(), queries]);
    table.row(["transactions of PostgreSQL a second at rest".to_owned(), at_rest]);
    table.note(format!(
        "`kill -9` of a gateway; each client comes back to the other gateway with its cursor, at a random moment within {} s; every conversation has had an event meanwhile.",
        JITTER.as_secs()
    ));
    Ok(vec![table])
}

fn storm(sockets: usize) -> Result<Storm> {
    let system = Backends::with_services(1, 2)?;
    let env = system.env();
    let addresses = env.gateway_ws_urls.iter().map(|url| address_of(url)).collect::<Result<Vec<_>>>()?;
    let (doomed, other) = (addresses[0], addresses[1]);
    let pairs = pairs(sockets.div_ceil(2))?;
    let people = |number: usize| {
        (&pairs[number / 2], if number.is_multiple_of(2) { ParticipantKind::User } else { ParticipantKind::Contact })
    };
    let tokens = (0..sockets).map(|number| {
        let (pair, kind) = people(number);
        pair.token(kind)
    });
    let tokens: Vec<String> = tokens.collect::<Result<_>>()?;
    let connect_targets = tokens
        .iter()
        .enumerate()
        .map(|(number, token)| ConnectTarget { address: doomed, request: people(number).0.handshake(token, None) });
    let mut pool = SocketPool::new(ServerProtocol::Chat, connect_targets.collect(), Instant::now())?;
    pool.keeps_cursors = true;
    pool.open()?;

    let rest = JITTER + Duration::from_secs(1);
    let before = transactions(&system)?;
    pool.rest(rest)?;
    let transactions_at_rest = (transactions(&system)? - before) / rest.as_secs_f64();

    let before = transactions(&system)?;
    let killed = Instant::now();
    system.kill(*env.gateway_pids.first().context("no gateway")?)?;
    publish_unproven(&system, &pairs)?;
    let resume = |number: usize, cursor: &str| ConnectTarget {
        address: other,
        request: people(number).0.handshake(&tokens[number], Some(cursor)),
    };
    let (first, all) = come_back(&mut pool, killed, resume)?;
    let transactions = (transactions(&system)? - before) / killed.elapsed().as_secs_f64();
    let resumed = pool.clients.iter().filter(|client| client.resumed == Some(true)).count();
    drop(pool);
    system.stop()?;
    Ok(Storm { first, all, resumed, transactions, transactions_at_rest })
}

/// Each socket that is cut off comes back after a delay of its own. Says when the first and when the last was live.
fn come_back(
    pool: &mut SocketPool,
    killed: Instant,
    resume: impl Fn(usize, &str) -> ConnectTarget,
) -> Result<(Duration, Duration)> {
    let (mut waiting, mut live, mut first) = (BinaryHeap::new(), 0, None);
    while live < pool.clients.len() {
        ensure!(killed.elapsed() < TIMEOUT, "{live} sockets are live again, and no more");
        pool.turn(None, Duration::from_millis(5))?;
        for number in std::mem::take(&mut pool.changed) {
            match pool.clients[number].phase {
                Phase::Closed => {
                    let due = Instant::now() + JITTER.mul_f64(rand::rng().random::<f64>());
                    waiting.push(Reverse((due, number)));
                }
                Phase::Live => {
                    live += 1;
                    first.get_or_insert_with(|| killed.elapsed());
                }
                _ => {}
            }
        }
        while waiting.peek().is_some_and(|Reverse((due, _))| *due <= Instant::now()) {
            let Some(Reverse((_, number))) = waiting.pop() else { break };
            let client = &mut pool.clients[number];
            client.target = resume(number, &client.cursor);
            pool.connect(number)?;
        }
    }
    Ok((first.unwrap_or_default(), killed.elapsed()))
}

fn transactions(system: &Backends) -> Result<f64> {
    let query = "SELECT sum(xact_commit + xact_rollback) FROM pg_stat_database";
    Ok(system.ask_postgres(query)?.parse()?)
}
