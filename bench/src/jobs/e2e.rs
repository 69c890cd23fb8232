//! `POST` → frame at the receiver, through HAProxy both ways, at a light load: what people feel.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use shared::contract::participant::ParticipantKind;

use crate::backends::Backends;
use crate::figures::{Samples, short};
use crate::gateway_targets::pairs;
use crate::jobs::RunOptions;
use crate::load::client::{ConnectTarget, ServerProtocol};
use crate::load::delivery_counts::DeliveryCounts;
use crate::load::http::Sent;
use crate::load::sends::Senders;
use crate::load::socket_pool::SocketPool;
use crate::participants::{Pair, address_of};
use crate::report::Table;

/// Conversations that the sends are spread over.
const PAIRS: usize = 20;
const PER_SECOND: f64 = 100.0;
/// For frames that are still on their way.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The table.
pub(crate) fn run(options: &RunOptions) -> Result<Vec<Table>> {
    let system = Backends::with_services(1, 2)?;
    let env = system.env();
    let pairs = pairs(PAIRS)?;
    let open = |pair: &Pair| {
        let request = pair.handshake(&pair.token(ParticipantKind::Contact)?, None);
        Ok(ConnectTarget { address: address_of(&env.ws_url)?, request })
    };
    let connect_targets = pairs.iter().map(open).collect::<Result<_>>()?;
    let epoch = Instant::now();
    let mut pool = SocketPool::new(ServerProtocol::Chat, connect_targets, epoch)?;
    pool.open()?;
    let mut senders = Senders::connect(&[address_of(&env.base_url)?], &pairs, epoch)?;
    let [mut answered, mut frame] =
        [[Samples::default(), Samples::default()], [Samples::default(), Samples::default()]];
    let (mut sends, mut lost, mut skipped) = (0, 0, 0);
    for round in 0..=options.rounds {
        let (sent, counts) = exchange(&mut pool, &mut senders, options.duration)?;
        if round == 0 {
            continue; // The first sends open conversations and connections.
        }
        for (samples, quantile) in answered.iter_mut().zip([0.5, 0.99]) {
            samples.push(sent.ages.millis(quantile));
        }
        for (samples, quantile) in frame.iter_mut().zip([0.5, 0.99]) {
            samples.push(counts.ages.millis(quantile));
        }
        sends += sent.answered;
        lost += sent.answered.saturating_sub(counts.delivered);
        skipped += counts.skipped;
        eprintln!("  e2e, round {round}: p50 {} ms", frame[0].last().map_or_else(String::new, short));
    }
    drop(pool);
    drop(senders);
    system.stop()?;
    let mut table = Table::new("e2e", ["from when the send was due", "p50, ms", "p99, ms"]);
    table.row(["to its 201".to_owned(), answered[0].show(short), answered[1].show(short)]);
    table.row(["to the frame at the receiver".to_owned(), frame[0].show(short), frame[1].show(short)]);
    table.note(format!(
        "{PER_SECOND} sends a second over {PAIRS} conversations, through HAProxy both ways, one API service and two gateways: {sends} sends, {lost} lost, {skipped} gaps."
    ));
    Ok(vec![table])
}

/// Sends for `duration` while the sockets listen.
fn exchange(pool: &mut SocketPool, senders: &mut Senders, duration: Duration) -> Result<(Sent, DeliveryCounts)> {
    let (is_over, epoch) = (AtomicBool::new(false), pool.counts.epoch);
    let sent = thread::scope(|scope| -> Result<Sent> {
        let sending = scope.spawn(|| {
            let sent = senders.at_rate(PER_SECOND, duration);
            is_over.store(true, Ordering::Release);
            sent
        });
        while !is_over.load(Ordering::Acquire) {
            pool.turn(None, Duration::from_millis(50))?;
        }
        sending.join().ok().context("the sender panicked")?
    })?;
    let started = Instant::now();
    while pool.counts.delivered < sent.answered && started.elapsed() < TIMEOUT {
        pool.turn(None, Duration::from_millis(50))?;
    }
    Ok((sent, std::mem::replace(&mut pool.counts, DeliveryCounts::new(epoch))))
}
