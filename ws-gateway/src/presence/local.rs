//! The participants with sockets on this gateway in one location, and which of them must be written to Redis.
//!
//! A participant stays online for a grace period after the last socket closes. So a page reload or a network change
//! is not visible.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use shared::contract::participant::Participant;
use tokio::time::Instant;

/// The local participants of one location.
#[derive(Debug, Default)]
pub(super) struct LocalParticipants {
    all: HashMap<Participant, LocalEntry>,
    /// Participants that may have to be written as online, each once.
    queued: VecDeque<Participant>,
    /// Participants without a socket, in the order in which they left.
    leaving: VecDeque<(Instant, Participant)>,
    /// Part of the lease id. Every full rewrite uses a new one, so that stale entries in Redis expire with the old
    /// lease. It is never reused.
    incarnation: u32,
}

#[derive(Debug, Default)]
struct LocalEntry {
    sockets: u32,
    sync_state: SyncState,
    is_queued: bool,
    /// When the last socket closed, while there is none.
    left: Option<Instant>,
}

/// Whether Redis has this participant as online.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum SyncState {
    #[default]
    Dirty,
    /// An update was sent, but its result is unknown.
    InFlight,
    Synced,
}

/// An update for Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PresenceUpdate {
    pub(super) participant: Participant,
    /// When the participant left; `None` if it is online.
    pub(super) left: Option<Instant>,
}

impl LocalParticipants {
    pub(super) fn new(incarnation: u32) -> Self {
        Self { incarnation, ..Self::default() }
    }

    /// A socket has opened.
    pub(super) fn connected(&mut self, participant: &Participant) {
        let entry = match self.all.get_mut(participant) {
            Some(entry) => entry,
            None => self.all.entry(participant.clone()).or_default(),
        };
        entry.sockets += 1;
        entry.left = None;
        if entry.sync_state != SyncState::Synced && !std::mem::replace(&mut entry.is_queued, true) {
            self.queued.push_back(participant.clone());
        }
    }

    /// A socket has closed.
    pub(super) fn disconnected(&mut self, participant: &Participant, now: Instant) {
        let Some(entry) = self.all.get_mut(participant) else { return };
        entry.sockets = entry.sockets.saturating_sub(1);
        if entry.sockets == 0 {
            entry.left = Some(now);
            self.leaving.push_back((now, participant.clone()));
        }
    }

    /// Whether no participant is online or in its grace period.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Participants that are online or in their grace period.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Participants that Redis must have as online.
    pub(super) fn synced_count(&self) -> usize {
        self.all.values().filter(|entry| entry.sync_state == SyncState::Synced).count()
    }

    /// Whether no participant waits to be written, so that Redis can be compared.
    pub(super) fn is_queue_empty(&self) -> bool {
        self.queued.is_empty()
    }

    /// Part of the lease id.
    pub(super) fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// When [`LocalParticipants::take_updates`] will return updates.
    pub(super) fn next_due(&self, now: Instant, grace: Duration) -> Option<Instant> {
        if !self.queued.is_empty() {
            return Some(now);
        }
        self.leaving.front().map(|(left, _)| *left + grace)
    }

    /// Takes at most `limit` updates. All must be returned with [`LocalParticipants::confirm`] or
    /// [`LocalParticipants::retry`] before the next call.
    pub(super) fn take_updates(&mut self, now: Instant, grace: Duration, limit: usize) -> Vec<PresenceUpdate> {
        let mut updates = Vec::new();
        while updates.len() < limit
            && let Some(participant) = self.queued.pop_front()
        {
            let Some(entry) = self.all.get_mut(&participant) else { continue };
            entry.is_queued = false;
            if entry.sockets > 0 && entry.sync_state != SyncState::Synced {
                updates.push(PresenceUpdate { participant, left: None });
            }
        }
        while updates.len() < limit
            && self.leaving.front().is_some_and(|(left, _)| *left + grace <= now)
            && let Some((left, participant)) = self.leaving.pop_front()
        {
            match self.all.get(&participant) {
                Some(entry) if entry.left == Some(left) && entry.sync_state != SyncState::Dirty => {
                    updates.push(PresenceUpdate { participant, left: Some(left) });
                }
                Some(entry) if entry.left == Some(left) => drop(self.all.remove(&participant)),
                // The participant has a socket again.
                _ => {}
            }
        }
        updates
    }

    /// Redis has applied the updates.
    pub(super) fn confirm(&mut self, updates: Vec<PresenceUpdate>) {
        for PresenceUpdate { participant, left } in updates {
            let Some(entry) = self.all.get_mut(&participant) else { continue };
            if left.is_none() {
                entry.sync_state = SyncState::Synced;
                continue;
            }
            entry.sync_state = SyncState::Dirty;
            if entry.sockets > 0 {
                // A socket has opened in the meantime.
                self.queue(&participant);
            } else if entry.left == left {
                self.all.remove(&participant);
            }
        }
    }

    /// It is unknown whether Redis has applied the updates.
    pub(super) fn retry(&mut self, updates: Vec<PresenceUpdate>) {
        for PresenceUpdate { participant, left } in updates.into_iter().rev() {
            let Some(entry) = self.all.get_mut(&participant) else { continue };
            entry.sync_state = SyncState::InFlight;
            match left {
                Some(left) if entry.left == Some(left) => self.leaving.push_front((left, participant)),
                _ => self.queue(&participant),
            }
        }
    }

    /// Redis lost entries, or they are about to expire: writes all of them again, under a new incarnation.
    /// Participants in their grace period expire with the old lease.
    pub(super) fn mark_all_dirty(&mut self, incarnation: u32) {
        self.incarnation = incarnation;
        self.leaving.clear();
        self.all.retain(|_, entry| entry.sockets > 0);
        self.queued.clear();
        for (participant, entry) in &mut self.all {
            (entry.sync_state, entry.is_queued) = (SyncState::Dirty, true);
            self.queued.push_back(participant.clone());
        }
    }

    fn queue(&mut self, participant: &Participant) {
        if let Some(entry) = self.all.get_mut(participant)
            && !std::mem::replace(&mut entry.is_queued, true)
        {
            self.queued.push_back(participant.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(3);

    fn doctor() -> Participant {
        "user:doc123".parse().unwrap()
    }

    fn take_and_confirm(local: &mut LocalParticipants, now: Instant) -> Vec<(String, bool)> {
        let updates = local.take_updates(now, GRACE, 10);
        let summary = updates.iter().map(|update| (update.participant.to_string(), update.left.is_none())).collect();
        local.confirm(updates);
        summary
    }

    fn came() -> Vec<(String, bool)> {
        vec![("user:doc123".to_owned(), true)]
    }

    fn went() -> Vec<(String, bool)> {
        vec![("user:doc123".to_owned(), false)]
    }

    #[test]
    fn participant_is_online_from_first_to_last_socket() {
        let (mut local, now) = (LocalParticipants::default(), Instant::now());
        local.connected(&doctor());
        local.connected(&doctor());
        assert_eq!(local.next_due(now, GRACE), Some(now));
        assert_eq!(take_and_confirm(&mut local, now), came());
        assert_eq!((local.len(), local.synced_count(), local.next_due(now, GRACE)), (1, 1, None));
        local.disconnected(&doctor(), now);
        assert_eq!(local.next_due(now, GRACE), None);
        local.disconnected(&doctor(), now);
        assert_eq!(local.next_due(now, GRACE), Some(now + GRACE));
        assert_eq!(take_and_confirm(&mut local, now + GRACE / 2), []);
        assert_eq!(take_and_confirm(&mut local, now + GRACE), went());
        assert!(local.is_empty());
    }

    #[test]
    fn return_within_grace_changes_nothing() {
        let (mut local, now) = (LocalParticipants::default(), Instant::now());
        local.connected(&doctor());
        take_and_confirm(&mut local, now);
        local.disconnected(&doctor(), now);
        local.connected(&doctor());
        assert_eq!(take_and_confirm(&mut local, now + GRACE), []);
        // The grace period starts with the last close.
        local.disconnected(&doctor(), now + GRACE);
        local.connected(&doctor());
        local.disconnected(&doctor(), now + 2 * GRACE);
        assert_eq!(take_and_confirm(&mut local, now + 2 * GRACE), []);
        assert_eq!(take_and_confirm(&mut local, now + 3 * GRACE), went());
    }

    #[test]
    fn unsynced_participant_leaves_without_update() {
        let (mut local, now) = (LocalParticipants::default(), Instant::now());
        local.connected(&doctor());
        local.disconnected(&doctor(), now);
        assert_eq!(take_and_confirm(&mut local, now), []);
        assert_eq!(take_and_confirm(&mut local, now + GRACE), []);
        assert!(local.is_empty() && local.next_due(now, GRACE).is_none());
    }

    #[test]
    fn return_during_offline_update_is_written_again() {
        let (mut local, now) = (LocalParticipants::default(), Instant::now());
        local.connected(&doctor());
        take_and_confirm(&mut local, now);
        local.disconnected(&doctor(), now);
        let under_way = local.take_updates(now + GRACE, GRACE, 10);
        local.connected(&doctor());
        local.confirm(under_way);
        assert_eq!(take_and_confirm(&mut local, now + GRACE), came());
    }

    #[test]
    fn failed_update_is_retried() {
        let (mut local, now) = (LocalParticipants::default(), Instant::now());
        local.connected(&doctor());
        let under_way = local.take_updates(now, GRACE, 10);
        local.retry(under_way);
        assert_eq!(local.synced_count(), 0);
        assert_eq!(take_and_confirm(&mut local, now), came());
        local.disconnected(&doctor(), now);
        let under_way = local.take_updates(now + GRACE, GRACE, 10);
        local.retry(under_way);
        assert_eq!(take_and_confirm(&mut local, now + GRACE), went());
    }

    #[test]
    fn all_participants_are_rewritten_when_dirty() {
        let (mut local, now) = (LocalParticipants::default(), Instant::now());
        local.connected(&doctor());
        take_and_confirm(&mut local, now);
        local.mark_all_dirty(1);
        local.mark_all_dirty(2);
        assert_eq!((local.synced_count(), local.incarnation(), local.is_queue_empty()), (0, 2, false));
        assert_eq!(take_and_confirm(&mut local, now), came());
        assert_eq!(take_and_confirm(&mut local, now), []);
        assert!(local.is_queue_empty());
    }

    #[test]
    fn participant_in_grace_expires_with_old_lease() {
        let (mut local, now) = (LocalParticipants::default(), Instant::now());
        local.connected(&doctor());
        take_and_confirm(&mut local, now);
        local.disconnected(&doctor(), now);
        local.mark_all_dirty(1);
        assert!(local.is_empty() && local.next_due(now, GRACE).is_none());
    }

    #[test]
    fn uncertain_updates_are_always_resolved() {
        let (mut local, now) = (LocalParticipants::default(), Instant::now());
        local.connected(&doctor());
        let under_way = local.take_updates(now, GRACE, 10);
        local.disconnected(&doctor(), now);
        local.retry(under_way);
        assert_eq!(take_and_confirm(&mut local, now), []);
        assert_eq!(take_and_confirm(&mut local, now + GRACE), went(), "it may be written down");
        assert!(local.is_empty());
        // The same for the opposite order.
        local.connected(&doctor());
        take_and_confirm(&mut local, now);
        local.disconnected(&doctor(), now);
        let under_way = local.take_updates(now + GRACE, GRACE, 10);
        local.connected(&doctor());
        local.retry(under_way);
        assert_eq!(take_and_confirm(&mut local, now + GRACE), came(), "it may be crossed out");
        local.disconnected(&doctor(), now);
        let under_way = local.take_updates(now + GRACE, GRACE, 10);
        local.retry(under_way);
        local.connected(&doctor());
        assert_eq!(take_and_confirm(&mut local, now + GRACE), came(), "a later return as well");
    }

    #[test]
    fn take_updates_respects_limit() {
        let (mut local, now) = (LocalParticipants::default(), Instant::now());
        for n in 0..25 {
            local.connected(&format!("contact:{n}").parse().unwrap());
        }
        let sizes: Vec<_> = (0..4).map(|_| take_and_confirm(&mut local, now).len()).collect();
        assert_eq!(sizes, [10, 10, 5, 0]);
    }
}
