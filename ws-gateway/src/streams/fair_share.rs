//! Whose loads wait. As long as there is plenty of room nobody counts; then no location takes more than half of the queue, and no
//! participant more than an eighth, on however many sockets.

use std::collections::HashMap;

use shared::ids::LocationId;
use shared::participant::Participant;

use super::StreamEntry;

/// Parts of the queue that one location may take: one of so many.
const LOCATION_SHARE: usize = 2;
/// The same for one participant.
const PARTICIPANT_SHARE: usize = 8;

/// How much waits of each.
#[derive(Default)]
pub(super) struct FairShare {
    /// Loads that are counted, from the first.
    counted: usize,
    locations: HashMap<LocationId, usize>,
    participants: HashMap<(LocationId, Participant), usize>,
}

impl FairShare {
    /// Whether one more load leaves the others their room. `entries` are those that wait, and `weight` is theirs at least.
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

    /// Other loads wait now.
    pub(super) fn reset(&mut self) {
        if self.counted > 0 {
            *self = Self::default();
        }
    }
}
