//! Reads the presence of watched participants from Redis.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use shared::contract::ids::LocationId;
use shared::contract::presence::{ConversationCheck, Presence};
use tokio::time::{Instant, sleep_until};

use super::store::PresenceStore;
use super::watchlist::Lookup;
use super::{CONCURRENCY, Inner, LocationState, MIN_INTERVAL, PARTICIPANTS_PER_SCRIPT};

impl Inner {
    /// Runs queued lookups, and queues all participants once per poll interval.
    pub(super) async fn poll_loop(&self, store: &PresenceStore) {
        let mut all_at = Instant::now() + self.timing.poll_interval;
        loop {
            let began = Instant::now();
            if began >= all_at {
                all_at = began + self.timing.poll_interval;
                for (location, state) in self.locations.lock().iter_mut() {
                    state.watchlist.poll_all();
                    for conversation in state.watchlist.repeat_checks() {
                        self.checks.enqueue(ConversationCheck { location: location.clone(), conversation });
                    }
                }
            }
            let lookups = self.take_lookups(began);
            if lookups.is_empty() {
                let retry_at = self.retry_at().unwrap_or(all_at);
                tokio::select! {
                    () = self.lookup_requested.notified() => {}
                    () = sleep_until(all_at.min(retry_at)) => {}
                }
                continue;
            }
            let look_up = async |(location, lookups): (LocationId, Vec<Lookup>)| {
                let results = store.look_up(&location, &lookups).await;
                (location, lookups, results)
            };
            let mut looking_up = stream::iter(lookups.into_iter().map(look_up)).buffer_unordered(CONCURRENCY);
            while let Some((location, lookups, results)) = looking_up.next().await {
                match results {
                    Ok(results) => self.apply_lookups(&location, &lookups, &results),
                    Err(error) => {
                        tracing::debug!(%error, "presence lookup failed, will retry");
                        if let Some(state) = self.locations.lock().get_mut(&location) {
                            state.watchlist.lookup_failed(lookups);
                            state.record_failure();
                        }
                    }
                }
            }
            sleep_until(began + MIN_INTERVAL).await;
        }
    }

    /// When the next failed location may be retried.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        let locations = self.locations.lock();
        let due =
            locations.iter().filter(|(location, state)| state.watchlist.has_queued() && !self.is_node_down(location));
        due.map(|(_, state)| state.retry_at).min()
    }

    pub(super) fn take_lookups(&self, now: Instant) -> Vec<(LocationId, Vec<Lookup>)> {
        let mut locations = self.locations.lock();
        let is_due = |state: &LocationState| state.watchlist.has_queued() && state.retry_at <= now;
        let due = locations.iter_mut().filter(|(location, state)| is_due(state) && !self.is_node_down(location));
        let due = due.take(CONCURRENCY);
        due.map(|(location, state)| (location.clone(), state.watchlist.take_lookups(PARTICIPANTS_PER_SCRIPT))).collect()
    }

    pub(super) fn apply_lookups(
        &self,
        location: &LocationId,
        lookups: &[Lookup],
        results: &[(Presence, Option<Duration>)],
    ) {
        let mut locations = self.locations.lock();
        for (lookup, (presence, lasts)) in lookups.iter().zip(results) {
            let Some(state) = locations.get_mut(location) else { return };
            // After an outage of Redis, leases of live gateways have expired too.
            if presence.is_online() || state.healthy_since.elapsed() > self.timing.lease {
                let changes = state.watchlist.apply_lookup(lookup, *presence, *lasts);
                self.broadcast(&mut locations, location, changes);
            }
        }
    }
}
