//! Closes the sockets whose token is no longer valid (4401).

use shared::contract::revocation::RevocationSet;
use shared::contract::token::Principal;

use super::Hub;
use crate::socket::CloseReason;

impl Hub {
    /// Closes the sockets whose token was revoked. Returns how many.
    ///
    /// One sweep per change is cheaper than waking every socket to check itself.
    pub(crate) fn close_revoked(&self, revocations: &RevocationSet) -> usize {
        self.close_sockets_where(CloseReason::TokenRevoked, |principal| revocations.is_revoked(principal.identity()))
    }

    /// Closes the sockets whose token is no longer valid, for this reason. Returns how many.
    pub(crate) fn close_sockets_where(&self, reason: CloseReason, is_invalid: impl Fn(&Principal) -> bool) -> usize {
        // The predicate runs without the lock, because it is slow enough to delay events.
        let mut sockets = Vec::new();
        let mut closed = 0;
        for shard in &self.shards {
            sockets.extend(shard.lock().rooms.values().flat_map(|room| room.sockets.iter().cloned()));
            let revoked = sockets.drain(..).filter(|socket| is_invalid(&socket.principal()));
            closed += revoked.inspect(|socket| socket.close(reason)).count();
        }
        closed
    }
}
