//! Whose loads wait. As long as there is plenty of room nobody counts; then no location takes more than half of the queue, and no
//! participant more than an eighth, on however many sockets.

use std::collections::HashMap;

use shared::ids::LocationId;
use shared::participant::Participant;

use super::Load;

/// Parts of the queue that one location may take: one of so many.
const OF_A_LOCATION: usize = 2;
/// The same for one participant.
const OF_A_PARTICIPANT: usize = 8;

/// How much waits of each.
#[derive(Default)]
pub(super) struct Shares {
    /// Loads that are counted, from the first.
    counted: usize,
    locations: HashMap<LocationId, usize>,
    participants: HashMap<(LocationId, Participant), usize>,
}

impl Shares {
    /// Whether one more load leaves the others their room. `loads` are those that wait, and `weight` is theirs at least.
    pub(super) fn admit<L: Load>(&mut self, loads: &[L], weight: usize, load: &L) -> bool {
        let most_of_a_participant = L::MOST_WAITING / OF_A_PARTICIPANT;
        let Some((location, participant)) = load.owner() else { return true };
        if weight + load.weight() <= most_of_a_participant {
            return true;
        }
        for waiting in loads.get(self.counted..).unwrap_or_default() {
            if let Some((location, participant)) = waiting.owner() {
                *self.locations.entry(location.clone()).or_default() += waiting.weight();
                *self.participants.entry((location.clone(), participant.clone())).or_default() += waiting.weight();
            }
        }
        self.counted = loads.len();
        let of_location = self.locations.get(location).copied().unwrap_or_default();
        let of_participant =
            self.participants.get(&(location.clone(), participant.clone())).copied().unwrap_or_default();
        of_location + load.weight() <= L::MOST_WAITING / OF_A_LOCATION
            && of_participant + load.weight() <= most_of_a_participant
    }

    /// Other loads wait now.
    pub(super) fn forget(&mut self) {
        if self.counted > 0 {
            *self = Self::default();
        }
    }
}
