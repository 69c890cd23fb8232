//! The participants of one location that sockets of this gateway watch, and their last known presence.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use shared::contract::ids::ConversationId;
use shared::contract::participant::Participant;
use shared::contract::presence::Presence;
use tokio::time::Instant;

/// The watched participants of one location.
#[derive(Debug, Default)]
pub(super) struct Watchlist {
    all: HashMap<Participant, WatchedParticipant>,
    /// Participants to look up, each once.
    queued: Vec<Participant>,
    /// Conversations for which the API service was asked whether they have a message.
    pending_checks: HashMap<ConversationId, PendingCheck>,
}

#[derive(Debug)]
struct PendingCheck {
    of: Vec<Participant>,
    /// Repetitions left. A conversation without a message gets no answer.
    attempts_left: u8,
}

/// Repetitions of a check, in case the answer was lost.
const MAX_REPEATS: u8 = 3;

#[derive(Debug)]
struct WatchedParticipant {
    /// Conversations with their number of sockets, sorted by id: a participant may have thousands.
    conversations: Vec<(ConversationId, u32)>,
    watched_since: Instant,
    last_known: Option<Presence>,
    /// Incremented by each notice. A lookup that began before a notice is outdated.
    version: u32,
    is_queued: bool,
}

/// A participant to look up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lookup {
    pub(super) participant: Participant,
    version: u32,
}

/// A change of presence, and the conversations that show it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PresenceChange {
    pub(super) participant: Participant,
    pub(super) presence: Presence,
    pub(super) conversations: Vec<ConversationId>,
}

impl Watchlist {
    /// A peer has opened a socket of this conversation.
    pub(super) fn watch(&mut self, participant: &Participant, conversation: ConversationId, now: Instant) {
        let watched_participant = match self.all.entry(participant.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                self.queued.push(participant.clone());
                // Most participants are watched in one conversation.
                let conversations = Vec::with_capacity(1);
                entry.insert(WatchedParticipant {
                    conversations,
                    watched_since: now,
                    last_known: None,
                    version: 0,
                    is_queued: true,
                })
            }
        };
        match watched_participant.conversations.binary_search_by_key(&conversation, |(id, _)| *id) {
            Ok(index) => watched_participant.conversations[index].1 += 1,
            Err(index) => watched_participant.conversations.insert(index, (conversation, 1)),
        }
    }

    /// A peer has closed a socket.
    pub(super) fn unwatch(&mut self, participant: &Participant, conversation: ConversationId) {
        let Some(watched_participant) = self.all.get_mut(participant) else { return };
        let Ok(index) = watched_participant.conversations.binary_search_by_key(&conversation, |(id, _)| *id) else {
            return;
        };
        let (_, sockets) = &mut watched_participant.conversations[index];
        *sockets -= 1;
        if *sockets == 0 {
            watched_participant.conversations.remove(index);
            if let Entry::Occupied(mut pending_checks) = self.pending_checks.entry(conversation) {
                pending_checks.get_mut().of.retain(|of| of != participant);
                if pending_checks.get().of.is_empty() {
                    pending_checks.remove();
                }
            }
        }
        if watched_participant.conversations.is_empty() {
            self.all.remove(participant);
        }
    }

    /// Whether no participant is watched.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Applies a notice. Returns the change, if it is one.
    pub(super) fn apply_notice(&mut self, participant: &Participant, presence: Presence) -> Option<PresenceChange> {
        let watched_participant = self.all.get_mut(participant)?;
        watched_participant.version = watched_participant.version.wrapping_add(1);
        let before = watched_participant.last_known.replace(presence);
        let is_news = before.is_none_or(|before| before.is_online() != presence.is_online());
        is_news.then(|| watched_participant.change(participant, presence))
    }

    /// Queues all participants, because notices may have been lost.
    pub(super) fn poll_all(&mut self) {
        for (participant, watched_participant) in &mut self.all {
            if !std::mem::replace(&mut watched_participant.is_queued, true) {
                self.queued.push(participant.clone());
            }
        }
    }

    pub(super) fn has_queued(&self) -> bool {
        !self.queued.is_empty()
    }

    /// Takes at most `limit` lookups.
    pub(super) fn take_lookups(&mut self, limit: usize) -> Vec<Lookup> {
        let some = self.queued.split_off(self.queued.len().saturating_sub(limit));
        let lookup = |participant: Participant| {
            let watched_participant = self.all.get_mut(&participant)?;
            watched_participant.is_queued = false;
            Some(Lookup { version: watched_participant.version, participant })
        };
        some.into_iter().filter_map(lookup).collect()
    }

    /// Applies a lookup; `lasts` is how long this presence has lasted. Returns the change, if it is one.
    ///
    /// A presence that is older than the watch is no change: clients read it through the API.
    pub(super) fn apply_lookup(
        &mut self,
        lookup: &Lookup,
        presence: Presence,
        lasts: Option<Duration>,
    ) -> Option<PresenceChange> {
        let watched_participant = self
            .all
            .get_mut(&lookup.participant)
            .filter(|watched_participant| watched_participant.version == lookup.version)?;
        let is_news = match watched_participant.last_known {
            Some(last_known) => last_known.is_online() != presence.is_online(),
            None => lasts.is_some_and(|lasts| lasts < watched_participant.watched_since.elapsed()),
        };
        watched_participant.last_known = Some(presence);
        is_news.then(|| watched_participant.change(&lookup.participant, presence))
    }

    /// These lookups failed and are queued again.
    pub(super) fn lookup_failed(&mut self, lookups: Vec<Lookup>) {
        for Lookup { participant, .. } in lookups {
            if let Some(watched_participant) = self.all.get_mut(&participant)
                && !std::mem::replace(&mut watched_participant.is_queued, true)
            {
                self.queued.push(participant);
            }
        }
    }

    /// Notes that the API service is asked whether this conversation has a message.
    pub(super) fn request_check(&mut self, conversation: ConversationId, of: &Participant) {
        let pending_checks =
            self.pending_checks.entry(conversation).or_insert(PendingCheck { of: Vec::new(), attempts_left: 0 });
        pending_checks.attempts_left = MAX_REPEATS;
        if !pending_checks.of.contains(of) {
            pending_checks.of.push(of.clone());
        }
    }

    /// The checks to repeat. A check without repetitions left is dropped until the next change.
    pub(super) fn repeat_checks(&mut self) -> Vec<ConversationId> {
        self.pending_checks.retain(|_, pending_checks| pending_checks.attempts_left > 0);
        self.pending_checks.values_mut().for_each(|pending_checks| pending_checks.attempts_left -= 1);
        self.pending_checks.keys().copied().collect()
    }

    /// The conversation has a message. Returns the changes that were withheld.
    pub(super) fn resolve_check(&mut self, conversation: ConversationId) -> Vec<PresenceChange> {
        let of = self.pending_checks.remove(&conversation).map(|pending_checks| pending_checks.of).unwrap_or_default();
        let change = |participant: Participant| {
            let presence = self.all.get(&participant)?.last_known?;
            Some(PresenceChange { participant, presence, conversations: vec![conversation] })
        };
        of.into_iter().filter_map(change).collect()
    }
}

impl WatchedParticipant {
    fn change(&self, participant: &Participant, presence: Presence) -> PresenceChange {
        let conversations = self.conversations.iter().map(|(id, _)| *id).collect();
        PresenceChange { participant: participant.clone(), presence, conversations }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const GONE: Presence = Presence::Offline(None);
    const LONG: Option<Duration> = Some(Duration::from_secs(3600));

    fn doctor() -> Participant {
        "user:doc123".parse().unwrap()
    }

    fn id(n: u128) -> ConversationId {
        Uuid::from_u128(n)
    }

    fn watched(ids: &[u128]) -> Watchlist {
        let mut watched = Watchlist::default();
        for n in ids {
            watched.watch(&doctor(), id(*n), Instant::now());
        }
        watched
    }

    fn lookup(watched: &mut Watchlist) -> Lookup {
        watched.poll_all();
        let mut lookups = watched.take_lookups(10);
        assert_eq!(lookups.len(), 1);
        lookups.remove(0)
    }

    fn summary(change: Option<PresenceChange>) -> Option<(bool, usize)> {
        change.map(|change| (change.presence.is_online(), change.conversations.len()))
    }

    #[test]
    fn change_is_reported_once_per_conversation() {
        let mut watched = watched(&[1, 2, 2]);
        let before = lookup(&mut watched);
        assert_eq!(summary(watched.apply_lookup(&before, GONE, LONG)), None, "older than the watch");
        assert_eq!(summary(watched.apply_notice(&doctor(), Presence::Online)), Some((true, 2)));
        assert_eq!(summary(watched.apply_notice(&doctor(), Presence::Online)), None);
        assert_eq!(summary(watched.apply_notice(&doctor(), GONE)), Some((false, 2)));
        assert_eq!(summary(watched.apply_notice(&"contact:doc123".parse().unwrap(), GONE)), None);
    }

    #[test]
    fn lookup_finds_change_that_pubsub_lost() {
        let mut watched = watched(&[1]);
        let before = lookup(&mut watched);
        watched.apply_lookup(&before, Presence::Online, LONG);
        let before = lookup(&mut watched);
        assert_eq!(summary(watched.apply_lookup(&before, GONE, LONG)), Some((false, 1)));
        let before = lookup(&mut watched);
        assert_eq!(summary(watched.apply_lookup(&before, GONE, LONG)), None);
    }

    #[test]
    fn notice_supersedes_earlier_lookup() {
        let mut watched = watched(&[1]);
        let before = lookup(&mut watched);
        watched.apply_notice(&doctor(), Presence::Online);
        assert_eq!(summary(watched.apply_lookup(&before, GONE, Some(Duration::ZERO))), None);
        let after = lookup(&mut watched);
        assert_eq!(summary(watched.apply_lookup(&after, Presence::Online, LONG)), None, "already reported");
    }

    #[test]
    fn only_change_since_watch_began_is_reported() {
        let mut fresh = watched(&[1]);
        let before = lookup(&mut fresh);
        assert_eq!(summary(fresh.apply_lookup(&before, Presence::Online, Some(Duration::ZERO))), Some((true, 1)));
        let mut unknown = watched(&[1]);
        let before = lookup(&mut unknown);
        assert_eq!(summary(unknown.apply_lookup(&before, GONE, None)), None);
    }

    #[test]
    fn unwatched_participant_is_removed() {
        let mut watched = watched(&[1, 1, 2]);
        watched.request_check(id(1), &doctor());
        for n in [1, 1, 2, 3] {
            assert!(!watched.is_empty());
            watched.unwatch(&doctor(), id(n));
            if n == 2 {
                break;
            }
        }
        assert!(watched.is_empty() && watched.pending_checks.is_empty());
        assert_eq!(summary(watched.apply_notice(&doctor(), Presence::Online)), None);
        assert_eq!(watched.take_lookups(10), []);
    }

    #[test]
    fn withheld_change_is_reported_with_current_presence() {
        let mut watched = watched(&[1, 2]);
        watched.apply_notice(&doctor(), Presence::Online);
        watched.request_check(id(1), &doctor());
        watched.request_check(id(1), &doctor());
        watched.apply_notice(&doctor(), GONE);
        let change = watched.resolve_check(id(1));
        assert_eq!(change, [PresenceChange { participant: doctor(), presence: GONE, conversations: vec![id(1)] }]);
        assert_eq!(watched.resolve_check(id(1)), []);
        assert_eq!(watched.resolve_check(id(2)), []);
    }

    #[test]
    fn unanswered_check_is_repeated_a_few_times() {
        let mut watched = watched(&[1, 2]);
        watched.apply_notice(&doctor(), Presence::Online);
        watched.request_check(id(1), &doctor());
        for _ in 0..MAX_REPEATS {
            assert_eq!(watched.repeat_checks(), [id(1)]);
        }
        assert!(watched.repeat_checks().is_empty());
        assert_eq!(watched.resolve_check(id(1)), [], "it is given up");
        watched.request_check(id(2), &doctor());
        assert_eq!(watched.repeat_checks(), [id(2)]);
        assert_eq!(watched.resolve_check(id(2)).len(), 1);
        assert!(watched.repeat_checks().is_empty());
    }

    #[test]
    fn check_of_one_side_survives_end_of_the_other() {
        let mut watched = watched(&[1]);
        let patient: Participant = "contact:pat456".parse().unwrap();
        watched.watch(&patient, id(1), Instant::now());
        watched.apply_notice(&patient, Presence::Online);
        watched.request_check(id(1), &doctor());
        watched.request_check(id(1), &patient);
        watched.unwatch(&doctor(), id(1));
        assert_eq!(watched.resolve_check(id(1)).len(), 1);
    }

    #[test]
    fn failed_lookup_is_repeated() {
        let mut watched = watched(&[1]);
        assert!(watched.has_queued());
        let lookups = watched.take_lookups(10);
        assert!(!watched.has_queued());
        watched.lookup_failed(lookups.clone());
        watched.lookup_failed(lookups);
        assert_eq!(watched.take_lookups(10).len(), 1);
    }
}
