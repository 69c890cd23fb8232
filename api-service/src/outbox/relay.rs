//! Rounds of relaying: the oldest rows that wait go to Redis, and what became of each is noted. And the sweep, which finds what
//! nobody else publishes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use shared::publication::PublishMode;
use tokio::time::{Instant, timeout};

use super::confirmation::PublishedBatch;
use super::{MAX_BATCH_EVENTS, OutboxRelay, RelayError};
use crate::outbox::broker::{PublishOutcome, PublishRequest};
use crate::store::{DeferredEntry, LeasedBatch, OutboxEntry, OutboxEvent, PartlyPublished, RelayOutcome};

/// How often to look for what a dead instance left behind.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Events younger than this are still on some instance's fast path.
const SWEEP_AGE_SECONDS: f64 = 3.0;
/// Published and still not forgotten after so long: whoever published it has died. And how often to look for that.
const ORPHAN_AGE_SECONDS: f64 = 15.0;
const ORPHAN_CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// Deferred rows of which no instance may know any more why: how often some of them are tried, and how many.
const DEFERRED_RETRY_INTERVAL: Duration = Duration::from_secs(5);
const DEFERRED_RETRY_ROWS: i64 = 500;
/// How long Redis may take for a round. Shorter than the turn to relay lasts.
const ROUND_TIMEOUT: Duration = Duration::from_secs(6);

/// What a round of relaying has found.
pub(super) struct RelayBatch {
    /// As many as it takes at once: there may be more.
    pub(super) is_full: bool,
}

impl OutboxRelay {
    /// Looks for what nobody else publishes, for ever.
    pub(super) async fn sweep(&self) {
        let mut check_orphans_at = Instant::now();
        let mut retry_deferred_at = Instant::now();
        let mut retried_up_to = 0;
        loop {
            if Instant::now() >= check_orphans_at {
                check_orphans_at = Instant::now() + ORPHAN_CHECK_INTERVAL;
                if let Err(error) = self.store.requeue_older_than(ORPHAN_AGE_SECONDS).await {
                    tracing::debug!(%error, "what a dead instance has published stays in the outbox");
                }
            }
            if Instant::now() >= retry_deferred_at {
                retry_deferred_at = Instant::now() + DEFERRED_RETRY_INTERVAL;
                // From the beginning again once the end is reached.
                retried_up_to = match self.store.resume_deferred(retried_up_to, DEFERRED_RETRY_ROWS).await {
                    Ok(last) => last.unwrap_or(0),
                    Err(_) => retried_up_to,
                };
            }
            let is_draining = self.rejections.is_draining();
            let mut is_empty = false;
            loop {
                match self.relay(SWEEP_AGE_SECONDS).await {
                    Ok(Some(RelayBatch { is_full: true })) => {}
                    Ok(batch) => {
                        is_empty = batch.is_some();
                        break;
                    }
                    Err(error) => {
                        tracing::debug!(%error, "sweeping the outbox failed");
                        break;
                    }
                }
            }
            if is_draining && is_empty {
                self.catch_up_requested.store(true, Ordering::Release);
            }
            if let Ok(depth) = self.store.outbox_depth().await {
                metrics::gauge!("outbox_events").set(depth.events as f64);
                metrics::gauge!("outbox_age_seconds").set(depth.age);
                metrics::gauge!("outbox_failed").set(depth.failed as f64);
            }
            let _sooner = timeout(SWEEP_INTERVAL, self.resumed.notified()).await;
        }
    }

    /// Publishes the oldest entries. `None` when another instance is at it.
    pub(super) async fn relay(&self, age_seconds: f64) -> Result<Option<RelayBatch>, RelayError> {
        let _turn = self.relay_turn.lock().await;
        let connection = self.health.borrow().connection;
        let Some(leased) = self.store.lease_oldest(self.instance, MAX_BATCH_EVENTS as i64, age_seconds).await? else {
            return Ok(None);
        };
        for (row, reason) in &leased.failed {
            tracing::error!(row, reason, "a row of the outbox cannot be rebuilt and is set aside");
            metrics::counter!("outbox_failed_total", "reason" => *reason).increment(1);
        }
        let batch = RelayBatch { is_full: leased.is_full };
        if leased.entries.is_empty() {
            return Ok(Some(batch));
        }
        // Who has come back late, after a pause of the whole process, say, gives its turn back instead.
        let published = match fits_in_lease(leased.until, Instant::now()) {
            true => timeout(ROUND_TIMEOUT, self.republish(&leased)).await.unwrap_or(Err(RelayError::Timeout)),
            false => Err(RelayError::Timeout),
        };
        let relayed = published.as_ref().map_or_else(|_| RelayOutcome::default(), |(relayed, _)| relayed.clone());
        let ids = self.store.finish_relay(self.instance, &relayed).await?;
        let (_, events) = published?;
        metrics::counter!("events_published_total", "path" => "outbox").increment(events);
        self.requeue_if_reconnected(connection, &ids).await;
        self.confirm_later(PublishedBatch { ids, connection, at: Instant::now(), is_marked: true });
        Ok(Some(batch))
    }

    /// Publishes all events of these entries that are not set aside. Returns what became of the entries, and how many events
    /// Redis has now.
    async fn republish(&self, leased: &LeasedBatch) -> Result<(RelayOutcome, u64), RelayError> {
        let entries = &leased.entries;
        let map = self.rejections.is_active().then(|| self.broker.node_map());
        // What comes before is published, or stands before it here, or is deferred: then this is deferred behind it.
        let is_behind =
            |entry, event: &OutboxEvent| event.conversation().is_some_and(|one| leased.is_behind(entry, one));
        let events = entries.iter().flat_map(|entry| &entry.events);
        let is_attempted: Vec<bool> = entries
            .iter()
            .flat_map(|entry| entry.events.iter().map(move |event| (entry, event)))
            .map(|(entry, event)| {
                !is_behind(entry, event)
                    && map.as_ref().is_none_or(|map| !self.rejections.is_backing_off(&event.channel, map))
            })
            .collect();
        let due: Vec<PublishRequest<'_>> = events
            .clone()
            .zip(&is_attempted)
            .filter(|(_, is_attempted)| **is_attempted)
            .map(|(event, _)| (event, PublishMode::Deduplicate))
            .collect();
        let mut outcomes = self.broker.publish(&due).await?.into_iter();
        let mut is_published = Vec::with_capacity(is_attempted.len());
        for (event, is_attempted) in events.zip(is_attempted) {
            let outcome = if is_attempted { outcomes.next() } else { None };
            if let Some(PublishOutcome::Rejected(rejection)) = &outcome {
                self.rejections.record(&event.channel, rejection, &self.broker);
            }
            if !is_attempted {
                self.rejections.add_waiting_channel(&event.channel, &self.broker);
            }
            is_published.push(outcome == Some(PublishOutcome::Published));
        }
        let relayed = relay_outcome(entries, &is_published);
        self.publish_inboxes(entries.iter().flat_map(|entry| entry.updates.clone()).collect()).await?;
        Ok((relayed, is_published.into_iter().filter(|is_published| *is_published).count() as u64))
    }
}

/// Whether a round that begins now ends while nobody else has the turn.
fn fits_in_lease(until: Instant, now: Instant) -> bool {
    now + ROUND_TIMEOUT <= until
}

/// What became of entries whose events are published, or not, in their order.
fn relay_outcome(entries: &[OutboxEntry], is_published: &[bool]) -> RelayOutcome {
    let mut relayed = RelayOutcome::default();
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
        OutboxEntry { id, events: messages.map(event).collect(), updates: Vec::new() }
    }

    #[test]
    fn a_relay_that_comes_back_late_publishes_nothing() {
        let until = Instant::now() + Duration::from_secs(8);
        assert!(fits_in_lease(until, until - Duration::from_secs(8)) && fits_in_lease(until, until - ROUND_TIMEOUT));
        assert!(
            !fits_in_lease(until, until - ROUND_TIMEOUT + Duration::from_millis(1)) && !fits_in_lease(until, until)
        );
    }

    #[test]
    fn an_entry_of_which_redis_refused_a_part_keeps_that_part_alone() {
        let entries = [entry(1, 0..2), entry(2, 2..5), entry(3, 5..6)];
        let relayed = relay_outcome(&entries, &[true, true, true, false, true, false]);
        assert_eq!(relayed.published, [1]);
        assert_eq!(relayed.deferred, [DeferredEntry { id: 3, conversations: vec![Uuid::from_u128(5)] }]);
        let deferred = DeferredEntry { id: 2, conversations: vec![Uuid::from_u128(3)] };
        assert_eq!(relayed.partly, [PartlyPublished { refused: vec![Uuid::from_u128(3)], deferred }]);
    }
}
