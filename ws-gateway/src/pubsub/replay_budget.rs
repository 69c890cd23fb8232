//! Bounds the replayed events in memory per participant.
//!
//! A resuming socket may need a full queue of frames, and a participant may have a hundred sockets. A replay beyond
//! the bound is not sent. The client must reload the history (`resumed: false`), as if the log were gone.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use metrics::counter;
use parking_lot::Mutex;
use shared::contract::participant::Participant;

/// Unsent replays of one participant, in full queues of one socket.
const QUEUES_PER_PARTICIPANT: usize = 8;

/// Bytes of unsent replays per participant. Keys are kept as hashes with a random seed.
pub(crate) struct ReplayBudget {
    max_bytes: usize,
    reserved: Mutex<HashMap<u64, usize>>,
    hasher: RandomState,
}

/// The unsent replay of one socket. Dropping it releases its bytes.
pub(crate) struct ReplayReservation {
    budget: Arc<ReplayBudget>,
    key: u64,
    bytes: usize,
}

impl ReplayBudget {
    /// At most [`QUEUES_PER_PARTICIPANT`] queues of `queue_bytes` per participant.
    pub(crate) fn new(queue_bytes: usize) -> Arc<Self> {
        let max_bytes = queue_bytes.saturating_mul(QUEUES_PER_PARTICIPANT);
        Arc::new(Self { max_bytes, reserved: Mutex::default(), hasher: RandomState::new() })
    }

    /// Reserves bytes for a participant; `None` if the bound would be exceeded.
    pub(crate) fn reserve(self: &Arc<Self>, key: &Participant, bytes: usize) -> Option<ReplayReservation> {
        let key = self.hasher.hash_one(key);
        let mut reserved = self.reserved.lock();
        let sum = reserved.get(&key).copied().unwrap_or(0) + bytes;
        if sum > self.max_bytes {
            counter!("ehr_chat_gateway_replays_too_large_total").increment(1);
            return None;
        }
        reserved.insert(key, sum);
        Some(ReplayReservation { budget: self.clone(), key, bytes })
    }
}

impl Drop for ReplayReservation {
    fn drop(&mut self) {
        if let Entry::Occupied(mut reserved) = self.budget.reserved.lock().entry(self.key) {
            *reserved.get_mut() -= self.bytes;
            if *reserved.get() == 0 {
                reserved.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_is_per_participant_and_released_on_drop() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let budget = ReplayBudget::new(20);
        let [doctor, patient]: [Participant; 2] = ["user:a", "contact:a"].map(|name| name.parse().unwrap());
        let first = budget.reserve(&doctor, 100).unwrap();
        assert!(budget.reserve(&doctor, 61).is_none());
        assert!(recorder.handle().render().contains("ehr_chat_gateway_replays_too_large_total 1"));
        let others = (budget.reserve(&doctor, 60), budget.reserve(&patient, 160));
        assert!(others.0.is_some() && others.1.is_some());
        drop(first);
        assert!(budget.reserve(&doctor, 100).is_some());
        drop(others);
        assert!(budget.reserved.lock().is_empty(), "released participants are removed");
    }
}
