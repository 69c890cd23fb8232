//! Writes local participants to Redis, and renews leases.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use metrics::counter;
use shared::contract::ids::LocationId;
use shared::contract::redis::keys::Channel;
use shared::contract::redis::presence::REWRITE_INTERVAL_MILLIS;
use shared::kit::shutdown::Shutdown;
use tokio::time::{Instant, sleep_until};

use super::local::PresenceUpdate;
use super::store::{LeaseId, PresenceStore};
use super::{CONCURRENCY, Inner, LocationState, MIN_INTERVAL, PARTICIPANTS_PER_SCRIPT, RETRY_DELAY};

/// Renewals during one lease.
const RENEWALS_PER_LEASE: u32 = 3;

impl Inner {
    /// Writes changes and renews leases until `shutdown`.
    pub(super) async fn sync_loop(&self, store: &PresenceStore, shutdown: &Shutdown) {
        let every = self.timing.lease / RENEWALS_PER_LEASE;
        let mut renew_at = Instant::now();
        while !shutdown.has_begun() {
            let now = Instant::now();
            if now >= renew_at {
                renew_at = now + if self.renew_leases(store).await { every } else { RETRY_DELAY };
            }
            self.write_updates(store, self.take_updates(now)).await;
            // Changes during this time are written together.
            sleep_until(now + MIN_INTERVAL).await;
            let due = self.next_due().unwrap_or(renew_at).min(renew_at);
            tokio::select! {
                () = self.local_changed.notified() => {}
                () = self.reconnected.notified() => renew_at = Instant::now(),
                () = sleep_until(due) => {}
                () = shutdown.wait_for_begin() => {}
            }
        }
        // Most clients have reconnected elsewhere or will soon. The others expire with this short lease.
        let lease = self.timing.grace;
        let last =
            self.lease_ids().into_iter().map(|lease_id| async move { store.renew_lease(&lease_id, lease, 0).await });
        stream::iter(last).buffer_unordered(CONCURRENCY).for_each(async |_unreachable| {}).await;
    }

    /// Whether the node of this location is down while others are up.
    pub(super) fn is_node_down(&self, location: &LocationId) -> bool {
        self.hub.is_node_down(&Channel::presence(location))
    }

    pub(super) fn lease_ids(&self) -> Vec<LeaseId> {
        let locations = self.locations.lock();
        let locations = locations.iter().filter(|(location, _)| !self.is_node_down(location));
        locations.map(|(location, state)| LeaseId::new(location, state)).collect()
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        let now = Instant::now();
        let due = |(location, state): (&LocationId, &LocationState)| {
            let due = state.local.next_due(now, self.timing.grace)?.max(state.retry_at);
            (!self.is_node_down(location)).then_some(due)
        };
        self.locations.lock().iter().filter_map(due).min()
    }

    /// The next updates, per script call.
    pub(super) fn take_updates(&self, now: Instant) -> Vec<(LeaseId, Vec<PresenceUpdate>)> {
        let mut changes = Vec::new();
        self.locations.lock().retain(|location, state| {
            if changes.len() < CONCURRENCY && state.retry_at <= now && !self.is_node_down(location) {
                let some = state.local.take_updates(now, self.timing.grace, PARTICIPANTS_PER_SCRIPT);
                if !some.is_empty() {
                    changes.push((LeaseId::new(location, state), some));
                }
            }
            !state.is_empty()
        });
        changes
    }

    pub(super) async fn write_updates(&self, store: &PresenceStore, changes: Vec<(LeaseId, Vec<PresenceUpdate>)>) {
        let write = async |(lease_id, changes): (LeaseId, Vec<PresenceUpdate>)| {
            let written = store.apply_updates(&lease_id, &changes).await;
            (lease_id, changes, written)
        };
        let mut writing = stream::iter(changes.into_iter().map(write)).buffer_unordered(CONCURRENCY);
        while let Some((lease_id, changes, written)) = writing.next().await {
            let mut locations = self.locations.lock();
            // The location is being rewritten under a new incarnation, so this result does not matter.
            let Some(state) = locations.get_mut(&lease_id.location).filter(|state| lease_id.is_current(state)) else {
                continue;
            };
            match written {
                Ok(()) => {
                    let came = changes.iter().filter(|change| change.left.is_none()).count();
                    counter!("ehr_chat_gateway_presence_changes_total", "change" => "joined").increment(came as u64);
                    let went = changes.len() - came;
                    counter!("ehr_chat_gateway_presence_changes_total", "change" => "left").increment(went as u64);
                    state.local.confirm(changes);
                    if state.is_empty() {
                        locations.remove(&lease_id.location);
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "presence update failed, will retry");
                    counter!("ehr_chat_gateway_presence_retries_total").increment(1);
                    state.local.retry(changes);
                    state.record_failure();
                }
            }
        }
    }

    /// Renews the lease of every location, and expires participants of dead gateways. Returns whether nothing remains
    /// to be done until the next renewal.
    pub(super) async fn renew_leases(&self, store: &PresenceStore) -> bool {
        let lease = self.timing.lease;
        let lease_ids: Vec<_> = {
            let locations = self.locations.lock();
            let sweep = |state: &LocationState| {
                if state.healthy_since.elapsed() > lease { PARTICIPANTS_PER_SCRIPT } else { 0 }
            };
            let reached = locations.iter().filter(|(location, _)| !self.is_node_down(location));
            reached.map(|(location, state)| (LeaseId::new(location, state), sweep(state))).collect()
        };
        let prolong = async |(lease_id, sweep): (LeaseId, usize)| {
            let renewed = store.renew_lease(&lease_id, lease, sweep).await;
            (lease_id, renewed)
        };
        let mut renewing = stream::iter(lease_ids.into_iter().map(prolong)).buffer_unordered(CONCURRENCY);
        let mut is_enough = true;
        while let Some((lease_id, renewed)) = renewing.next().await {
            let mut locations = self.locations.lock();
            let Some(state) = locations.get_mut(&lease_id.location).filter(|state| lease_id.is_current(state)) else {
                continue;
            };
            match renewed {
                Ok((held, swept)) => {
                    counter!("ehr_chat_gateway_presence_changes_total", "change" => "expired").increment(swept as u64);
                    is_enough &= swept < PARTICIPANTS_PER_SCRIPT;
                    let differs = state.local.is_queue_empty() && held != state.local.synced_count();
                    if differs || state.rewritten_at.elapsed() > Duration::from_millis(REWRITE_INTERVAL_MILLIS) {
                        state.mark_all_dirty(self.next_incarnation());
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "presence lease renewal failed, will retry");
                    counter!("ehr_chat_gateway_presence_retries_total").increment(1);
                    state.record_failure();
                    is_enough = false;
                }
            }
        }
        is_enough
    }
}
