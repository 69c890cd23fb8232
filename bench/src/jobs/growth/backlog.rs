//! An outbox that has fallen behind, as after a long outage of Redis: how fast the relay works it off, and what sends lose.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::database::Databases;
use super::load::{Figures, Service, ratios};
use super::options::GrowthOptions;
use super::targets::Target;
use crate::backends::{Backends, ask_database};
use crate::figures::{Samples, short};
use crate::jobs::RunOptions;
use crate::load::sends::ManyConversations;
use crate::report::Table;

const CONNECTIONS: usize = 64;
const WARM_UP: Duration = Duration::from_secs(1);
/// Sends last so many times as long as in other jobs: the relay needs seconds to begin.
const LONGER: u32 = 5;
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// For the relay to take something more.
const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Outcome {
    without: Figures,
    with: Figures,
    relayed_beside_sends: Samples,
    relayed_alone: Samples,
    caught_up_after: Samples,
}

/// The table.
pub(super) fn run(
    options: &RunOptions,
    growth: &GrowthOptions,
    backends: &Backends,
    databases: &Databases,
) -> Result<Table> {
    let events = growth.backlog.min(databases.messages);
    let duration = options.duration * LONGER;
    let mut outcome = Outcome::default();
    for round in 1..=options.rounds {
        turn(duration, events, backends, databases, &mut outcome)?;
        let rate = outcome.relayed_alone.last().map_or_else(String::new, short);
        eprintln!("  growth, round {round}: {rate} events of the backlog a second");
    }
    let Outcome { without, with, relayed_beside_sends, relayed_alone, caught_up_after } = &outcome;
    let mut table = Table::new("growth-backlog", ["what", "no backlog", "with a backlog", "ratio"]);
    let mut row = |what: &str, value: fn(&Figures) -> &Samples| {
        let ratio = ratios(value(with), value(without)).show(|ratio| format!("{ratio:.2}×"));
        table.row([what.to_owned(), value(without).show(short), value(with).show(short), ratio]);
    };
    row("sends a second", |figures| &figures.per_second);
    row("p50, ms", |figures| &figures.p50);
    row("p99, ms", |figures| &figures.p99);
    row("CPU of all, µs a send", |figures| &figures.cpu);
    let mut alone = |what: &str, value: &Samples| {
        table.row([what.to_owned(), "–".to_owned(), value.show(short), "–".to_owned()]);
    };
    alone("events that the relay publishes a second, beside sends", relayed_beside_sends);
    alone("the same without sends", relayed_alone);
    alone("s from the start of the service until the backlog is gone", caught_up_after);
    table.note(format!(
        "{events} events, each in a row of its own: the worst case, since a row of a busy system holds some 30. They are of the newest messages of \
         the full database. {CONNECTIONS} connections send into as many conversations for {} s from the start of the service.",
        duration.as_secs()
    ));
    Ok(table)
}

fn turn(
    duration: Duration,
    events: u64,
    backends: &Backends,
    databases: &Databases,
    outcome: &mut Outcome,
) -> Result<()> {
    let url = &databases.full;
    backends.ask_postgres("checkpoint")?;
    let service = Service::start(backends, url)?;
    send(&service, duration, databases, &mut outcome.without)?;
    wait_until_empty(url)?;
    drop(service);

    // In the order of time, which is the order within each conversation.
    ask_database(
        url,
        &format!(
            "insert into outbox (kind, message_ids, created_at)
             select 'message', array[id], now() - interval '1 minute'
             from (select id from messages order by id desc limit {events}) m order by id;
             vacuum (analyze) outbox"
        ),
    )?;
    backends.ask_postgres("checkpoint")?;
    let (service, started) = (Service::start(backends, url)?, Instant::now());
    let before = (waiting(url)?, Instant::now());
    send(&service, duration, databases, &mut outcome.with)?;
    let (left, now) = (waiting(url)?, Instant::now());
    let rate = |from: u64, to: u64, time: Duration| from.saturating_sub(to) as f64 / time.as_secs_f64();
    outcome.relayed_beside_sends.push(rate(before.0, left, now - before.1));
    wait_until_empty(url)?;
    outcome.relayed_alone.push(rate(left, 0, now.elapsed()));
    outcome.caught_up_after.push(started.elapsed().as_secs_f64());
    Ok(())
}

fn send(service: &Service<'_>, duration: Duration, databases: &Databases, figures: &mut Figures) -> Result<()> {
    let templates = databases.targets[..CONNECTIONS].iter().map(Target::send).collect::<Result<_>>()?;
    let mut connections = service.connect(CONNECTIONS, ManyConversations::at_random(templates)?)?;
    connections.at_full_speed(WARM_UP)?;
    service.measure(&mut connections, duration, figures).map(drop)
}

/// Rows that wait for the relay.
fn waiting(url: &str) -> Result<u64> {
    let count = "select count(*) from outbox where published_at is null and failed_at is null and deferred_at is null";
    Ok(ask_database(url, count)?.parse()?)
}

fn wait_until_empty(url: &str) -> Result<()> {
    let (mut least, mut progress) = (u64::MAX, Instant::now());
    while least > 0 {
        let left = waiting(url)?;
        if left < least {
            (least, progress) = (left, Instant::now());
        }
        ensure!(progress.elapsed() < TIMEOUT, "the relay does not take {left} events of the outbox");
        sleep(POLL_INTERVAL);
    }
    Ok(())
}
