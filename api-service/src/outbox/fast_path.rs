//! From the commit to Redis without a detour, as long as Redis takes everything; and the catch-up with the outbox when it did
//! not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use shared::publication::PublishMode;
use shared::shutdown::Shutdown;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::inboxes::Told;
use super::relay::Round;
use super::settling::Published;
use super::{BATCH, Outbox, RETRY_AFTER};
use crate::publisher::{Committed, Due, Outcome};
use crate::store::OutboxEntry;

/// How long a message waits for the one before it.
const PREDECESSOR_PATIENCE: Duration = Duration::from_secs(1);
/// Between two attempts at it; doubled each time. Two instances that take turns in one conversation wait this long for each
/// turn, so it bounds how many messages a second they get through there.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(8);
/// Entries that may wait so. Past it none does.
const MOST_WAITING: usize = 1_000;

/// An entry that waits to be published, as a whole or in part.
struct Waiting {
    entry: OutboxEntry,
    /// Some of its events are left to the outbox, and so its row must stay there.
    is_left: bool,
    since: Instant,
    retry_at: Instant,
    pause: Duration,
}

impl Waiting {
    fn new(entry: OutboxEntry) -> Self {
        let now = Instant::now();
        Self { entry, is_left: false, since: now, retry_at: now, pause: SHORTEST_PAUSE }
    }
}

/// From the commit to Redis without a detour.
pub(super) struct FastPath {
    outbox: Arc<Outbox>,
    tell: mpsc::Sender<Told>,
    committed: Committed,
    waiting: Vec<Waiting>,
    /// The newest connection to Redis of which everything that it may lack was published again.
    connection: u64,
    shutdown: Shutdown,
}

impl FastPath {
    pub(super) fn new(
        outbox: Arc<Outbox>,
        tell: mpsc::Sender<Told>,
        committed: Committed,
        connection: u64,
        shutdown: Shutdown,
    ) -> Self {
        Self { outbox, tell, committed, waiting: Vec::new(), connection, shutdown }
    }

    pub(super) async fn run(mut self) {
        while !(self.committed.is_closed() && self.waiting.is_empty()) {
            if self.committed.overflowed()
                || self.outbox.health.borrow().connection != self.connection
                || self.outbox.wants_catch_up.swap(false, Ordering::AcqRel)
            {
                self.catch_up().await;
            }
            let is_open = !self.committed.is_closed();
            let retry_at = self.waiting.iter().map(|waiting| waiting.retry_at).min();
            let fresh = tokio::select! {
                entries = self.committed.next(BATCH), if is_open => entries,
                () = sleep_until(retry_at.unwrap_or_else(Instant::now)), if retry_at.is_some() => Vec::new(),
                // Another connection, perhaps.
                () = sleep(RETRY_AFTER) => Vec::new(),
            };
            self.waiting.extend(fresh.into_iter().map(Waiting::new));
            self.leave();
            if let Err(error) = self.publish().await {
                let events: usize = self.waiting.iter().map(|waiting| waiting.entry.events.len()).sum();
                tracing::warn!(error = error.details(), events, "Redis does not take events; the outbox holds them");
                self.catch_up().await;
            }
        }
    }

    /// Leaves to the outbox what is set aside: behind what waits there already.
    fn leave(&mut self) {
        let Outbox { set_aside, broker, .. } = &*self.outbox;
        if !set_aside.is_any() {
            return;
        }
        let map = broker.map();
        for Waiting { entry, is_left, .. } in &mut self.waiting {
            entry.events.retain(|event| {
                let is_held = set_aside.holds(&event.channel, &map);
                if is_held {
                    set_aside.also(&event.channel, broker);
                }
                *is_left |= is_held;
                !is_held
            });
        }
    }

    /// Publishes what waits and is due, all but what comes too early.
    async fn publish(&mut self) -> Result<(), fred::error::Error> {
        let now = Instant::now();
        let hurry = self.waiting.len() > MOST_WAITING;
        let is_due = |retry_at: Instant| hurry || retry_at <= now;
        let events: Vec<Due<'_>> = self
            .waiting
            .iter()
            .filter(|waiting| is_due(waiting.retry_at))
            .flat_map(|Waiting { entry, since, .. }| {
                let is_late = hurry || now.duration_since(*since) >= PREDECESSOR_PATIENCE;
                let manner = if is_late { PublishMode::Force } else { PublishMode::AfterPredecessor };
                entry.events.iter().map(move |event| (event, manner))
            })
            .collect();
        let outcomes = if events.is_empty() { Vec::new() } else { self.outbox.broker.publish(&events).await? };
        let count = |wanted| outcomes.iter().filter(|outcome| **outcome == wanted).count() as u64;
        metrics::counter!("events_published_total", "path" => "fast").increment(count(Outcome::Published));
        metrics::counter!("events_too_early_total").increment(count(Outcome::TooEarly));
        let mut outcomes = outcomes.into_iter();
        let (mut ids, mut changed) = (Vec::new(), Vec::new());
        self.waiting.retain_mut(|waiting| {
            if is_due(waiting.retry_at) {
                let before = waiting.entry.events.len();
                waiting.entry.events.retain(|event| match outcomes.next() {
                    Some(Outcome::Published) => false,
                    Some(Outcome::Refused(refusal)) => {
                        self.outbox.set_aside.refused(&event.channel, &refusal, &self.outbox.broker);
                        waiting.is_left = true;
                        false
                    }
                    Some(Outcome::TooEarly) | None => true,
                });
                let is_stuck = waiting.entry.events.len() == before;
                waiting.pause = if is_stuck { (waiting.pause * 2).min(LONGEST_PAUSE) } else { SHORTEST_PAUSE };
                waiting.retry_at = now + waiting.pause;
            }
            if waiting.entry.events.is_empty() {
                // The row of what is left to the outbox stays there, and is published from there.
                if !waiting.is_left {
                    ids.push(waiting.entry.id);
                }
                changed.append(&mut waiting.entry.changed);
            }
            !waiting.entry.events.is_empty()
        });
        let published = Published { ids, connection: self.connection, at: Instant::now(), noted: false };
        let is_any = !(published.ids.is_empty() && changed.is_empty());
        if is_any && self.tell.try_send(Told { changed, published }).is_err() {
            // They stay in the outbox, and the sweep finds them.
            metrics::counter!("inbox_queue_overflows_total").increment(1);
        }
        Ok(())
    }

    /// Publishes the outbox until it holds no more than what others have in hand; after a new connection with what the old
    /// one was given last. Then the fast path goes on.
    async fn catch_up(&mut self) {
        metrics::gauge!("outbox_behind").set(1);
        let since = Instant::now();
        // Redis takes these again. What waited of them is in the outbox, and goes first.
        let draining = self.outbox.set_aside.draining();
        while !self.catch_up_round().await {
            if self.shutdown.has_begun() {
                tracing::info!("the rest of the outbox is left to another instance, or to the next start of this one");
                break;
            }
        }
        self.outbox.drained(draining).await;
        metrics::gauge!("outbox_behind").set(0);
        tracing::info!(after_ms = since.elapsed().as_millis() as u64, "the fast path goes on");
    }

    /// Returns whether that was all.
    async fn catch_up_round(&mut self) -> bool {
        // What waits in memory is committed, and so among what is relayed next.
        self.waiting.clear();
        self.committed.skip();
        let health = *self.outbox.health.borrow();
        if health.connection != self.connection {
            match self.outbox.store.unsettle(health.since.elapsed().as_secs_f64()).await {
                Ok(()) => self.connection = health.connection,
                Err(error) => tracing::warn!(%error, "what Redis may have lost is not published again yet"),
            }
        }
        match self.outbox.relay(0.0).await {
            Ok(Some(Round { is_full: true })) => return false,
            Ok(Some(Round { is_full: false })) if health.connection == self.connection => return true,
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the outbox is not published yet"),
        }
        sleep(RETRY_AFTER).await;
        false
    }
}
