//! Keeps one client from filling the queue. While the queue is short, nothing is counted. Then a location may use
//! half of it, and a participant an eighth, over all sockets.

use std::collections::HashMap;

use shared::contract::ids::LocationId;
use shared::contract::participant::Participant;

use super::entry::StreamEntry;

/// A location's part of the queue: one of this many.
const LOCATION_SHARE: usize = 2;
/// A participant's part of the queue.
const PARTICIPANT_SHARE: usize = 8;

/// Queued weight per location and participant.
#[derive(Default)]
pub(super) struct FairShare {
    /// Entries counted so far, from the first.
    counted: usize,
    locations: HashMap<LocationId, usize>,
    participants: HashMap<(LocationId, Participant), usize>,
}

impl FairShare {
    /// Whether an entry may be queued. `entries` are the queued ones, with at least `weight`.
    pub(super) fn admit<L: StreamEntry>(&mut self, entries: &[L], weight: usize, entry: &L) -> bool {
        let participant_limit = L::MAX_QUEUED_WEIGHT / PARTICIPANT_SHARE;
        let Some((location, participant)) = entry.owner() else { return true };
        if weight + entry.weight() <= participant_limit {
            return true;
        }
        for queued in entries.get(self.counted..).unwrap_or_default() {
            if let Some((location, participant)) = queued.owner() {
                *self.locations.entry(location.clone()).or_default() += queued.weight();
                *self.participants.entry((location.clone(), participant.clone())).or_default() += queued.weight();
            }
        }
        self.counted = entries.len();
        let of_location = self.locations.get(location).copied().unwrap_or_default();
        let of_participant =
            self.participants.get(&(location.clone(), participant.clone())).copied().unwrap_or_default();
        of_location + entry.weight() <= L::MAX_QUEUED_WEIGHT / LOCATION_SHARE
            && of_participant + entry.weight() <= participant_limit
    }

    /// The queue has changed, so the counts start over.
    pub(super) fn reset(&mut self) {
        if self.counted > 0 {
            *self = Self::default();
        }
    }
}
