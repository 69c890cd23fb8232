//! Rounds of relaying: the oldest rows that wait go to Redis, and what became of each is noted. And the sweep, which finds what
//! nobody else publishes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use shared::publication::PublishMode;
use tokio::time::{Instant, timeout};

use super::settling::Published;
use super::{BATCH, Outbox, RelayError};
use crate::publisher::{Due, Outcome};
use crate::store::{DeferredEntry, OutboxEntry, OutboxEvent, PartlyPublished, Relayed, Taken};

/// How often to look for what a dead instance left behind.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Events younger than this are still on some instance's fast path.
const SWEEP_AGE_SECONDS: f64 = 3.0;
/// Published and still not forgotten after so long: whoever published it has died. And how often to look for that.
const ABANDONED_AFTER_SECONDS: f64 = 15.0;
const LOOK_FOR_ABANDONED_EVERY: Duration = Duration::from_secs(10);
/// Deferred rows of which no instance may know any more why: how often some of them are tried, and how many.
const TRY_DEFERRED_EVERY: Duration = Duration::from_secs(5);
const TRY_DEFERRED: i64 = 500;
/// How long Redis may take for a round. Shorter than the turn to relay lasts.
const ROUND: Duration = Duration::from_secs(6);

/// What a round of relaying has found.
pub(super) struct Round {
    /// As many as it takes at once: there may be more.
    pub(super) is_full: bool,
}

impl Outbox {
    /// Looks for what nobody else publishes, for ever.
    pub(super) async fn sweep(&self) {
        let mut look_for_abandoned_at = Instant::now();
        let mut try_deferred_at = Instant::now();
        let mut tried = 0;
        loop {
            if Instant::now() >= look_for_abandoned_at {
                look_for_abandoned_at = Instant::now() + LOOK_FOR_ABANDONED_EVERY;
                if let Err(error) = self.store.unsettle(ABANDONED_AFTER_SECONDS).await {
                    tracing::debug!(%error, "what a dead instance has published stays in the outbox");
                }
            }
            if Instant::now() >= try_deferred_at {
                try_deferred_at = Instant::now() + TRY_DEFERRED_EVERY;
                // From the beginning again once the end is reached.
                tried = match self.store.resume_deferred(tried, TRY_DEFERRED).await {
                    Ok(last) => last.unwrap_or(0),
                    Err(_) => tried,
                };
            }
            let is_draining = self.set_aside.is_draining();
            let mut is_empty = false;
            loop {
                match self.relay(SWEEP_AGE_SECONDS).await {
                    Ok(Some(Round { is_full: true })) => {}
                    Ok(round) => {
                        is_empty = round.is_some();
                        break;
                    }
                    Err(error) => {
                        tracing::debug!(%error, "sweeping the outbox failed");
                        break;
                    }
                }
            }
            if is_draining && is_empty {
                self.wants_catch_up.store(true, Ordering::Release);
            }
            if let Ok(depth) = self.store.outbox_depth().await {
                metrics::gauge!("outbox_events").set(depth.events as f64);
                metrics::gauge!("outbox_age_seconds").set(depth.age);
                metrics::gauge!("outbox_failed").set(depth.failed as f64);
            }
            let _sooner = timeout(SWEEP_EVERY, self.is_taken_again.notified()).await;
        }
    }

    /// Publishes the oldest entries. `None` when another instance is at it.
    pub(super) async fn relay(&self, age_seconds: f64) -> Result<Option<Round>, RelayError> {
        let _turn = self.relaying.lock().await;
        let connection = self.health.borrow().connection;
        let Some(taken) = self.store.take_oldest(self.relay, BATCH as i64, age_seconds).await? else { return Ok(None) };
        for (row, reason) in &taken.failed {
            tracing::error!(row, reason, "a row of the outbox cannot be rebuilt and is set aside");
            metrics::counter!("outbox_failed_total", "reason" => *reason).increment(1);
        }
        let round = Round { is_full: taken.is_full };
        if taken.entries.is_empty() {
            return Ok(Some(round));
        }
        // Who has come back late, after a pause of the whole process, say, gives its turn back instead.
        let published = match may_publish(taken.until, Instant::now()) {
            true => timeout(ROUND, self.publish_again(&taken)).await.unwrap_or(Err(RelayError::Late)),
            false => Err(RelayError::Late),
        };
        let relayed = published.as_ref().map_or_else(|_| Relayed::default(), |(relayed, _)| relayed.clone());
        let ids = self.store.relayed(self.relay, &relayed).await?;
        let (_, events) = published?;
        metrics::counter!("events_published_total", "path" => "outbox").increment(events);
        self.published_by(connection, &ids).await;
        self.settle(Published { ids, connection, at: Instant::now(), noted: true });
        Ok(Some(round))
    }

    /// Publishes all events of these entries that are not set aside. Returns what became of the entries, and how many events
    /// Redis has now.
    async fn publish_again(&self, taken: &Taken) -> Result<(Relayed, u64), RelayError> {
        let entries = &taken.entries;
        let map = self.set_aside.is_any().then(|| self.broker.map());
        // What comes before is published, or stands before it here, or is deferred: then this is deferred behind it.
        let is_behind =
            |entry, event: &OutboxEvent| event.conversation().is_some_and(|one| taken.is_behind(entry, one));
        let events = entries.iter().flat_map(|entry| &entry.events);
        let is_tried: Vec<bool> = entries
            .iter()
            .flat_map(|entry| entry.events.iter().map(move |event| (entry, event)))
            .map(|(entry, event)| {
                !is_behind(entry, event) && map.as_ref().is_none_or(|map| !self.set_aside.waits(&event.channel, map))
            })
            .collect();
        let due: Vec<Due<'_>> = events
            .clone()
            .zip(&is_tried)
            .filter(|(_, is_tried)| **is_tried)
            .map(|(event, _)| (event, PublishMode::Deduplicate))
            .collect();
        let mut outcomes = self.broker.publish(&due).await?.into_iter();
        let mut is_published = Vec::with_capacity(is_tried.len());
        for (event, is_tried) in events.zip(is_tried) {
            let outcome = if is_tried { outcomes.next() } else { None };
            if let Some(Outcome::Refused(refusal)) = &outcome {
                self.set_aside.refused(&event.channel, refusal, &self.broker);
            }
            if !is_tried {
                self.set_aside.also(&event.channel, &self.broker);
            }
            is_published.push(outcome == Some(Outcome::Published));
        }
        let relayed = relayed(entries, &is_published);
        self.tell(entries.iter().flat_map(|entry| entry.changed.clone()).collect()).await?;
        Ok((relayed, is_published.into_iter().filter(|is_published| *is_published).count() as u64))
    }
}

/// Whether a round that begins now ends while nobody else has the turn.
fn may_publish(until: Instant, now: Instant) -> bool {
    now + ROUND <= until
}

/// What became of entries whose events are published, or not, in their order.
fn relayed(entries: &[OutboxEntry], is_published: &[bool]) -> Relayed {
    let mut relayed = Relayed::default();
    let mut is_published = is_published.iter();
    for entry in entries {
        let of_entry: Vec<bool> = is_published.by_ref().take(entry.events.len()).copied().collect();
        if of_entry.iter().all(|is_published| *is_published) {
            relayed.published.push(entry.id);
            continue;
        }
        let refused = || entry.events.iter().zip(&of_entry).filter(|(_, is_published)| !**is_published);
        let conversations = refused().filter_map(|(event, _)| event.conversation()).collect();
        let deferred = DeferredEntry { id: entry.id, conversations };
        if of_entry.iter().all(|is_published| !is_published) {
            relayed.deferred.push(deferred);
        } else {
            let refused = refused().filter_map(|(event, _)| Some(event.draft.recipient.as_ref()?.message_id)).collect();
            relayed.partly.push(PartlyPublished { refused, deferred });
        }
    }
    relayed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::OutboxEvent;
    use shared::channel::Channel;
    use shared::event::{OutgoingEvent, Recipient};
    use uuid::Uuid;

    fn entry(id: i64, messages: std::ops::Range<u128>) -> OutboxEntry {
        let event = |n| {
            let addressed = Recipient { participant: "user:a".parse().unwrap(), message_id: Uuid::from_u128(n) };
            let channel = Channel::new(&"loc1".parse().unwrap(), Uuid::from_u128(n));
            OutboxEvent { channel, draft: OutgoingEvent::message("{}", addressed, 1) }
        };
        OutboxEntry { id, events: messages.map(event).collect(), changed: Vec::new() }
    }

    #[test]
    fn a_relay_that_comes_back_late_publishes_nothing() {
        let until = Instant::now() + Duration::from_secs(8);
        assert!(may_publish(until, until - Duration::from_secs(8)) && may_publish(until, until - ROUND));
        assert!(!may_publish(until, until - ROUND + Duration::from_millis(1)) && !may_publish(until, until));
    }

    #[test]
    fn an_entry_of_which_redis_refused_a_part_keeps_that_part_alone() {
        let entries = [entry(1, 0..2), entry(2, 2..5), entry(3, 5..6)];
        let relayed = relayed(&entries, &[true, true, true, false, true, false]);
        assert_eq!(relayed.published, [1]);
        assert_eq!(relayed.deferred, [DeferredEntry { id: 3, conversations: vec![Uuid::from_u128(5)] }]);
        let deferred = DeferredEntry { id: 2, conversations: vec![Uuid::from_u128(3)] };
        assert_eq!(relayed.partly, [PartlyPublished { refused: vec![Uuid::from_u128(3)], deferred }]);
    }
}
