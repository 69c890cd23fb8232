//! `POST` → frame at the receiver, through HAProxy both ways, at a light load: what people feel.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use shared::participant::ParticipantKind;

use crate::backends::Backends;
use crate::figures::{Samples, short};
use crate::jobs::Terms;
use crate::load::client::{Dialect, Opening};
use crate::load::fleet::Fleet;
use crate::load::http::{Senders, Sent};
use crate::load::tally::Tally;
use crate::people::{Pair, address_of};
use crate::relays::pairs;
use crate::report::Table;

/// Conversations that the sends are spread over.
const PAIRS: usize = 20;
const PER_SECOND: f64 = 100.0;
/// For frames that are still on their way.
const PATIENCE: Duration = Duration::from_secs(5);

/// The table.
pub(crate) fn run(terms: &Terms) -> Result<Vec<Table>> {
    let system = Backends::with_services(1, 2)?;
    let env = system.env();
    let pairs = pairs(PAIRS)?;
    let open = |pair: &Pair| {
        let request = pair.handshake(&pair.token(ParticipantKind::Contact)?, None);
        Ok(Opening { address: address_of(&env.ws_url)?, request })
    };
    let openings = pairs.iter().map(open).collect::<Result<_>>()?;
    let epoch = Instant::now();
    let mut fleet = Fleet::new(Dialect::Chat, openings, epoch)?;
    fleet.open()?;
    let mut senders = Senders::connect(&[address_of(&env.base_url)?], &pairs, epoch)?;
    let [mut answered, mut frame] =
        [[Samples::default(), Samples::default()], [Samples::default(), Samples::default()]];
    let (mut sends, mut lost, mut skipped) = (0, 0, 0);
    for round in 0..=terms.rounds {
        let (sent, tally) = exchange(&mut fleet, &mut senders, terms.duration)?;
        if round == 0 {
            continue; // The first sends open conversations and connections.
        }
        for (samples, quantile) in answered.iter_mut().zip([0.5, 0.99]) {
            samples.push(sent.ages.millis(quantile));
        }
        for (samples, quantile) in frame.iter_mut().zip([0.5, 0.99]) {
            samples.push(tally.ages.millis(quantile));
        }
        sends += sent.answered;
        lost += sent.answered.saturating_sub(tally.delivered);
        skipped += tally.skipped;
        eprintln!("  e2e, round {round}: p50 {} ms", frame[0].last().map_or_else(String::new, short));
    }
    drop(fleet);
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
fn exchange(fleet: &mut Fleet, senders: &mut Senders, duration: Duration) -> Result<(Sent, Tally)> {
    let (is_over, epoch) = (AtomicBool::new(false), fleet.tally.epoch);
    let sent = thread::scope(|scope| -> Result<Sent> {
        let sending = scope.spawn(|| {
            let sent = senders.at_rate(PER_SECOND, duration);
            is_over.store(true, Ordering::Release);
            sent
        });
        while !is_over.load(Ordering::Acquire) {
            fleet.turn(None, Duration::from_millis(50))?;
        }
        sending.join().ok().context("the sender panicked")?
    })?;
    let started = Instant::now();
    while fleet.tally.delivered < sent.answered && started.elapsed() < PATIENCE {
        fleet.turn(None, Duration::from_millis(50))?;
    }
    Ok((sent, std::mem::replace(&mut fleet.tally, Tally::new(epoch))))
}
