//! Fault, healing, check; again and again.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures_util::future::try_join_all;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use super::comes_true;
use super::fault::{Fault, Topology};
use super::observations::Observations;
use super::report::{Report, Round};
use super::system::System;
use super::violations::{Violations, check};
use super::workload::{Load, Workload};

/// From a fault's end until everything must be live again.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(60);
/// For the last retries before a check; longer than a sender's patience.
const QUIESCE_TIMEOUT: Duration = Duration::from_secs(100);
/// For the outbox to become empty.
const OUTBOX_DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
/// Rounds in one location. The next one begins in the middle of a fault, with conversations that do not exist yet.
const ROUNDS_PER_WORKLOAD: usize = 6;
/// How many of the rounds of a long run have two faults at once: one of this many.
const PAIRS_ONE_OF: u32 = 4;

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Decides the order of the faults, and whom they inject.
    pub seed: u64,
    /// What Redis is.
    pub topology: Topology,
    /// Whether PostgreSQL has a synchronous standby.
    pub has_standby: bool,
    /// How long faults go on; none: each strikes once.
    pub duration: Option<Duration>,
    /// Those that inject; all of them must be [`Fault::on`] this topology and [`Fault::on_database`].
    pub faults: Vec<Fault>,
    /// Conversations at a time; each has two senders and two receivers.
    pub conversations: usize,
    /// Between two messages of one sender.
    pub pace: Duration,
}

/// Starts a system, does all of it, and stops the system.
///
/// # Errors
/// When the system cannot be started, or a fault cannot be done. What a fault breaks is in the report.
pub async fn run(plan: &Plan) -> Result<Report> {
    println!("seed {}, {}", plan.seed, plan.topology);
    let system = System::start(plan.topology, plan.has_standby).await?;
    println!("logs are in {}", system.logs().join(" and "));
    let mut report = Report::default();
    let mut chaos = Chaos::begin(plan, &system);
    let began = Instant::now();
    let first = chaos.epoch.heal(began + RECOVERY_TIMEOUT).await;
    if !first.is_empty() {
        report.failures.push(format!("no load before the first fault: {}", first.join(", ")));
    }
    Report::print_head();
    let mut order = FaultSchedule::new(plan);
    while let Some(faults) = order.next(began.elapsed()) {
        let round = chaos.round(&faults, &mut order.rng).await?;
        let is_bad = !round.verdict().is_empty();
        report.add(round);
        chaos.rounds += 1;
        if is_bad || chaos.rounds.is_multiple_of(ROUNDS_PER_WORKLOAD) {
            chaos.renew();
        }
    }
    drop(chaos);
    if let Err(error) = system.stop().await {
        report.failures.push(format!("the system did not stop in order: {error:#}"));
    }
    Ok(report)
}

/// Which faults inject when.
struct FaultSchedule {
    plan: Plan,
    rng: StdRng,
    left: Vec<Fault>,
    has_begun: bool,
}

impl FaultSchedule {
    fn new(plan: &Plan) -> Self {
        Self { plan: plan.clone(), rng: StdRng::seed_from_u64(plan.seed), left: Vec::new(), has_begun: false }
    }

    /// Each once, in random order, and then all of them again; in a long run sometimes two that can meet.
    fn next(&mut self, elapsed: Duration) -> Option<Vec<Fault>> {
        if self.plan.duration.is_some_and(|duration| elapsed >= duration) {
            return None;
        }
        if self.left.is_empty() {
            if self.has_begun && self.plan.duration.is_none() {
                return None;
            }
            self.has_begun = true;
            self.left.clone_from(&self.plan.faults);
            self.left.shuffle(&mut self.rng);
        }
        let mut faults = vec![self.left.pop()?];
        if self.plan.duration.is_some() && self.rng.random_range(0..PAIRS_ONE_OF) == 0 {
            let place = self.left.iter().position(|other| faults[0].can_overlap(*other));
            faults.extend(place.map(|place| self.left.remove(place)));
        }
        Some(faults)
    }
}

struct Chaos<'a> {
    plan: &'a Plan,
    system: &'a System,
    observations: Arc<Observations>,
    epoch: Workload,
    rounds: usize,
}

impl<'a> Chaos<'a> {
    fn begin(plan: &'a Plan, system: &'a System) -> Self {
        let observations = Arc::new(Observations::default());
        let epoch = Workload::begin(&system.place(), load(plan), &observations);
        Self { plan, system, observations, epoch, rounds: 0 }
    }

    /// Leaves the location with all its clients, and begins with a fresh one.
    fn renew(&mut self) {
        self.observations = Arc::new(Observations::default());
        self.epoch = Workload::begin(&self.system.place(), load(self.plan), &self.observations);
    }

    async fn round(&mut self, faults: &[Fault], rng: &mut StdRng) -> Result<Round> {
        let mut failures = Vec::new();
        let (pids, before) = (self.system.pids(), self.epoch.acknowledged());
        let choices: Vec<usize> = faults.iter().map(|_| rng.random_range(0..64)).collect();
        let strikes = faults.iter().zip(choices).map(|(fault, choice)| self.system.inject(*fault, choice));
        let cause_gone = try_join_all(strikes).await?.into_iter().max().unwrap_or_else(Instant::now);

        let sick = self.epoch.heal(cause_gone + RECOVERY_TIMEOUT).await;
        let healed = sick.is_empty().then(|| cause_gone.elapsed());
        if !sick.is_empty() {
            failures.push(format!("not live again: {}", sick.join(", ")));
        }
        for fault in faults {
            self.system.repair(*fault)?;
        }
        // The load goes on for a while on a system that is well, as it would.
        let (epoch, healthy) = (&self.epoch, self.epoch.acknowledged() + 2 * self.plan.conversations);
        if !comes_true(RECOVERY_TIMEOUT, || async { epoch.acknowledged() >= healthy }).await {
            failures.push("the load does not go on".to_owned());
        }

        let quiet = self.epoch.pause(Instant::now() + QUIESCE_TIMEOUT).await;
        if quiet.is_none() {
            failures.push("a send hangs".to_owned());
        }
        let findings: Violations = check(&self.epoch.conversations, &self.observations).await;
        let events = self.system.outbox(OUTBOX_DRAIN_TIMEOUT).await;
        if events != 0.0 {
            failures.push(format!("the outbox holds {events} events"));
        }
        let restarted = self.system.pids().iter().zip(&pids).filter(|(now, then)| now != then).count();
        if restarted > self.system.restarts(faults) {
            failures.push(format!("{restarted} processes were restarted: one has died by itself"));
        }
        drop(quiet);
        let dead = self.epoch.dead_clients();
        if dead > 0 {
            failures.push(format!("{dead} clients of this suite have died"));
        }
        let acknowledged = self.epoch.acknowledged() - before;
        Ok(Round {
            faults: faults.to_vec(),
            acknowledged,
            findings,
            counts: self.observations.take(),
            healed,
            failures,
        })
    }
}

fn load(plan: &Plan) -> Load {
    Load { conversations: plan.conversations, pace: plan.pace, lasts: plan.duration.unwrap_or_default() }
}
