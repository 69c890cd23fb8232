//! Presence: this gateway's participants → Redis, and presence in Redis → the sockets of their peers.
//!
//! - `local`: participants with sockets here; `redis_writer` writes their changes and renews leases
//! - `watchlist`: peers whose presence a socket shows; `poll` reads them
//! - `store`: keys and scripts in Redis
//! - `conversation_checks`: asks whether two participants share a conversation
//!
//! A gateway holds one lease per location. If it dies, its lease ends, and another gateway expires its participants.
//! Changes are published on one channel per location, which is cheaper than one per participant. Polling finds
//! changes that pub/sub lost.
//!
//! Message delivery does not depend on presence. While Redis is down, presence stays as it was.

mod conversation_checks;
mod local;
mod poll;
mod redis_writer;
mod store;
mod watchlist;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use shared::contract::event::{Event, Header};
use shared::contract::ids::LocationId;
use shared::contract::participant::{Conversation, Participant};
use shared::contract::presence::{ConversationCheck, Notice};
use shared::contract::redis::keys::Channel;
use shared::kit::shutdown::Shutdown;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::hub::{ChannelGuard, Hub};
use crate::redis::RedisNodes;
use crate::socket::{EncodedEvent, Topic};
use conversation_checks::ConversationChecks;
use local::LocalParticipants;
use store::{LeaseId, PresenceStore};
use watchlist::{PresenceChange, Watchlist};

/// Participants per script call, which blocks Redis for about a millisecond.
const PARTICIPANTS_PER_SCRIPT: usize = 128;
/// Concurrent script calls, of each task.
pub(crate) const CONCURRENCY: usize = 16;
/// Between two rounds, so that a busy gateway sends few large commands.
const MIN_INTERVAL: Duration = Duration::from_millis(20);
/// Delay after a failure.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Durations of presence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PresenceTiming {
    /// How long a lease lasts without renewal.
    pub(crate) lease: Duration,
    /// How long a participant stays online without a socket.
    pub(crate) grace: Duration,
    /// Between two polls of all watched participants.
    pub(crate) poll_interval: Duration,
}

/// Tracks presence. Clones share their state.
#[derive(Clone)]
pub(crate) struct PresenceRegistry(Arc<Inner>);

struct Inner {
    locations: Mutex<Locations>,
    hub: Arc<Hub>,
    timing: PresenceTiming,
    checks: ConversationChecks,
    /// A local participant has come or gone.
    local_changed: Notify,
    /// A lookup is queued.
    lookup_requested: Notify,
    /// The connection to Redis is new.
    reconnected: Notify,
    /// Incarnations used so far, in all locations.
    incarnations: AtomicU32,
}

type Locations = HashMap<LocationId, LocationState>;

/// Presence of one location.
struct LocationState {
    local: LocalParticipants,
    watchlist: Watchlist,
    /// Held while a participant is watched.
    channel_guard: Option<ChannelGuard>,
    /// When all local participants were last queued for a rewrite.
    rewritten_at: Instant,
    /// Since when every script for this location has succeeded. After a whole lease, an expired lease means a dead
    /// gateway and not an outage of Redis.
    healthy_since: Instant,
    /// No script runs for this location before this.
    retry_at: Instant,
}

impl LocationState {
    fn new(incarnation: u32) -> Self {
        let now = Instant::now();
        let (local, watchlist) = (LocalParticipants::new(incarnation), Watchlist::default());
        Self { local, watchlist, channel_guard: None, rewritten_at: now, healthy_since: now, retry_at: now }
    }
}

impl PresenceRegistry {
    /// Starts both tasks. They run until `shutdown`.
    pub(crate) fn start(redis: &RedisNodes, hub: &Arc<Hub>, timing: PresenceTiming, shutdown: &Shutdown) -> Self {
        let registry = Self(Arc::new(Inner {
            locations: Mutex::default(),
            hub: hub.clone(),
            timing,
            checks: ConversationChecks::start(redis.clone(), shutdown),
            local_changed: Notify::new(),
            lookup_requested: Notify::new(),
            reconnected: Notify::new(),
            incarnations: AtomicU32::new(0),
        }));
        let store = Arc::new(PresenceStore::new(redis.clone(), timing.lease));
        let (syncing, sync_store, ended) = (registry.0.clone(), store.clone(), shutdown.clone());
        shutdown.spawn("presence", async move { syncing.sync_loop(&sync_store, &ended).await });
        let polling = registry.0.clone();
        shutdown.spawn_until("presence watch", async move { polling.poll_loop(&store).await });
        registry
    }

    /// A socket has opened.
    pub(crate) fn socket_opened(&self, topic: &Topic, participant: Option<&Participant>) {
        let mut locations = self.0.locations.lock();
        let state =
            locations.entry(topic.location().clone()).or_insert_with(|| LocationState::new(self.0.next_incarnation()));
        if let Some(person) = participant {
            state.local.connected(person);
            self.0.local_changed.notify_one();
        }
        if let Some(conversation) = topic.conversation() {
            let now = Instant::now();
            for other in peers_of(conversation, participant) {
                state.watchlist.watch(other, conversation.id(), now);
            }
            state.channel_guard.get_or_insert_with(|| self.0.hub.hold_channel(Channel::presence(topic.location())));
            self.0.lookup_requested.notify_one();
        }
    }

    /// A socket has closed.
    pub(crate) fn socket_closed(&self, topic: &Topic, participant: Option<&Participant>) {
        let mut locations = self.0.locations.lock();
        let Some(state) = locations.get_mut(topic.location()) else { return };
        if let Some(person) = participant {
            state.local.disconnected(person, Instant::now());
            self.0.local_changed.notify_one();
        }
        if let Some(conversation) = topic.conversation() {
            for other in peers_of(conversation, participant) {
                state.watchlist.unwatch(other, conversation.id());
            }
            if state.watchlist.is_empty() {
                state.channel_guard = None;
            }
        }
        if state.is_empty() {
            locations.remove(topic.location());
        }
    }

    /// Handles a notice from a location's channel.
    pub(crate) fn on_notice(&self, location: &str, payload: &[u8]) {
        let notice = match Notice::parse(payload) {
            Ok(notice) => notice,
            Err(error) => return tracing::error!(location, %error, "invalid presence notice ignored"),
        };
        let mut locations = self.0.locations.lock();
        let Some((location, _)) = locations.get_key_value(location) else { return };
        let location = location.clone();
        let Some(state) = locations.get_mut(&location) else { return };
        match notice {
            Notice::Changed(participant, presence) => {
                let changes = state.watchlist.apply_notice(&participant, presence);
                self.0.broadcast(&mut locations, &location, changes);
            }
            Notice::ConversationExists(conversation) => {
                self.0.hub.mark_shared(&Channel::new(&location, conversation));
                let changes = state.watchlist.resolve_check(conversation);
                self.0.broadcast(&mut locations, &location, changes);
            }
        }
    }

    /// Asks whether the conversation of this channel has a message. The answer goes to the hub.
    pub(crate) fn check_conversation(&self, channel: &str) {
        if let Some((location, conversation)) = shared::contract::redis::keys::parse_conversation(channel) {
            self.0.checks.enqueue(ConversationCheck { location, conversation });
        }
    }

    /// These channels are subscribed now. Earlier notices were missed, so everything is looked up.
    pub(crate) fn on_subscribed(&self, channels: &[Channel]) {
        let mut locations = self.0.locations.lock();
        for channel in channels.iter().filter(|channel| channel.is_presence()) {
            let state = shared::contract::redis::presence::parse_location(channel.as_str())
                .and_then(|name| locations.get_mut(name));
            if let Some(state) = state {
                state.watchlist.poll_all();
                self.0.lookup_requested.notify_one();
            }
        }
    }

    /// Redis may have lost presence, in the locations whose channel `is_concerned`. All keys of a location are on the
    /// node of its channel.
    pub(crate) fn reconnected(&self, is_concerned: impl Fn(&Channel) -> bool) {
        for (location, state) in self.0.locations.lock().iter_mut() {
            if !is_concerned(&Channel::presence(location)) {
                continue;
            }
            state.mark_all_dirty(self.0.next_incarnation());
            state.healthy_since = Instant::now();
        }
        self.0.reconnected.notify_one();
    }

    /// Participants with sockets on this gateway.
    pub(crate) fn participant_count(&self) -> usize {
        self.0.locations.lock().values().map(|state| state.local.len()).sum()
    }
}

/// The participants of a conversation other than the viewer.
fn peers_of<'a>(
    conversation: &'a Conversation,
    viewer: Option<&'a Participant>,
) -> impl Iterator<Item = &'a Participant> {
    [conversation.first(), conversation.second()].into_iter().filter(move |one| viewer != Some(*one))
}

impl LocationState {
    fn mark_all_dirty(&mut self, incarnation: u32) {
        self.rewritten_at = Instant::now();
        self.local.mark_all_dirty(incarnation);
    }

    /// A script has failed, or its result is unknown.
    fn record_failure(&mut self) {
        let now = Instant::now();
        (self.healthy_since, self.retry_at) = (now, now + RETRY_DELAY);
    }

    fn is_empty(&self) -> bool {
        self.local.is_empty() && self.watchlist.is_empty()
    }
}

impl Inner {
    /// A new incarnation. A location that was empty must not reuse the old one, or stale entries in Redis would be
    /// online again.
    fn next_incarnation(&self) -> u32 {
        self.incarnations.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends changes to the sockets, and asks about conversations that may have no message.
    fn broadcast(
        &self,
        locations: &mut Locations,
        location: &LocationId,
        changes: impl IntoIterator<Item = PresenceChange>,
    ) {
        for PresenceChange { participant, presence, conversations } in changes {
            let header = Header::Ephemeral { from: participant.clone() };
            let delivery = EncodedEvent::new(Event { header, frame: presence.frame(&participant).into() });
            for conversation in conversations {
                if !self.hub.send(&Channel::new(location, conversation), &delivery)
                    && let Some(state) = locations.get_mut(location)
                {
                    state.watchlist.request_check(conversation, &participant);
                    self.checks.enqueue(ConversationCheck { location: location.clone(), conversation });
                }
            }
        }
    }
}

impl LeaseId {
    fn new(location: &LocationId, state: &LocationState) -> Self {
        Self { location: location.clone(), incarnation: state.local.incarnation() }
    }

    fn is_current(&self, state: &LocationState) -> bool {
        self.incarnation == state.local.incarnation()
    }
}
