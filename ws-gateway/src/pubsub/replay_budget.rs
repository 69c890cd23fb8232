//! How much of what sockets missed is kept in memory for one participant.
//!
//! A socket that resumes has up to a whole queue of frames of its own, and a participant may have a hundred sockets. A replay
//! that finds no room is not sent: the client is told to load the history (`resumed: false`), as when the log is gone.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use metrics::counter;
use parking_lot::Mutex;
use shared::participant::Participant;

/// Bytes of replayed frames that wait for the sockets of each participant. Names are kept as hashes, whose key is this process's own.
pub(crate) struct ReplayBudget {
    most_bytes: usize,
    held: Mutex<HashMap<u64, usize>>,
    hasher: RandomState,
}

/// Frames of one socket that have not been sent. They no longer count when this is dropped.
pub(crate) struct Held {
    budget: Arc<ReplayBudget>,
    who: u64,
    bytes: usize,
}

impl ReplayBudget {
    /// At most `most_bytes` for each participant.
    pub(crate) fn new(most_bytes: usize) -> Arc<Self> {
        Arc::new(Self { most_bytes, held: Mutex::default(), hasher: RandomState::new() })
    }

    /// Holds these bytes for somebody; `None` when that would be too many.
    pub(crate) fn hold(self: &Arc<Self>, who: &Participant, bytes: usize) -> Option<Held> {
        let who = self.hasher.hash_one(who);
        let mut held = self.held.lock();
        let sum = held.get(&who).copied().unwrap_or(0) + bytes;
        if sum > self.most_bytes {
            counter!("gateway_replays_too_large_total").increment(1);
            return None;
        }
        held.insert(who, sum);
        Some(Held { budget: self.clone(), who, bytes })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Entry::Occupied(mut held) = self.budget.held.lock().entry(self.who) {
            *held.get_mut() -= self.bytes;
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_participant_has_so_much_and_gives_it_back() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let budget = ReplayBudget::new(100);
        let [doctor, patient]: [Participant; 2] = ["user:a", "contact:a"].map(|name| name.parse().unwrap());
        let first = budget.hold(&doctor, 60).unwrap();
        assert!(budget.hold(&doctor, 41).is_none());
        assert!(recorder.handle().render().contains("gateway_replays_too_large_total 1"));
        let others = (budget.hold(&doctor, 40), budget.hold(&patient, 100));
        assert!(others.0.is_some() && others.1.is_some());
        drop(first);
        assert!(budget.hold(&doctor, 60).is_some());
        drop(others);
        assert!(budget.held.lock().is_empty(), "nothing is kept of who holds nothing");
    }
}
