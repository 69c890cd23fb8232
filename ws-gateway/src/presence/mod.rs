//! Who is online: this gateway's own people → Redis, and everybody's → the sockets of those who share a conversation.
//!
//! Redis hears when somebody comes, and when somebody has been gone for a while; for all the rest a gateway holds a lease in
//! each location, and whoever is at a gateway whose lease has ended is sent away by another one. Each location has one
//! channel, on which changes are told; that costs less than a channel a person, since most people change seldom. What the
//! channel lost is seen by looking at everybody who is watched, again and again.
//!
//! Nothing waits for it, and no message depends on it. While Redis is away everybody stays as they were.

mod conversation_checks;
mod local;
mod poll;
mod store;
mod sync;
mod watchlist;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use shared::channel::Channel;
use shared::event::{Event, Header};
use shared::ids::LocationId;
use shared::participant::{Conversation, Participant};
use shared::presence::{ConversationCheck, Notice};
use shared::shutdown::Shutdown;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::hub::outbound_queue::EncodedEvent;
use crate::hub::topic::Topic;
use crate::hub::{ChannelGuard, Hub};
use crate::redis::Nodes;
use conversation_checks::ConversationChecks;
use local::LocalParticipants;
use store::{LeaseId, PresenceStore};
use watchlist::{PresenceChange, Watchlist};

/// People in one script, which holds up Redis for a millisecond or so.
const PARTICIPANTS_PER_SCRIPT: usize = 128;
/// Scripts under way at a time, of each task.
pub(crate) const CONCURRENCY: usize = 16;
/// Between two rounds of writing: a busy gateway writes few large commands.
const MIN_INTERVAL: Duration = Duration::from_millis(20);
/// How long to wait after a failure.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// How long things take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PresenceTiming {
    /// After which a gateway that is not heard of is dead.
    pub(crate) lease: Duration,
    /// For which somebody without a socket still counts as online.
    pub(crate) grace: Duration,
    /// Between two looks at everybody who is watched.
    pub(crate) poll_interval: Duration,
}

/// Everybody's presence. Clones are one.
#[derive(Clone)]
pub(crate) struct PresenceRegistry(Arc<Inner>);

struct Inner {
    locations: Mutex<Locations>,
    hub: Arc<Hub>,
    timing: PresenceTiming,
    checks: ConversationChecks,
    /// Somebody has come or gone.
    local_changed: Notify,
    /// Somebody is to be looked at.
    lookup_requested: Notify,
    /// The connection to Redis is a new one.
    reconnected: Notify,
    /// Under how many names people were written down so far, in all locations.
    incarnations: AtomicU32,
}

type Locations = HashMap<LocationId, LocationState>;

/// What there is in one location.
struct LocationState {
    local: LocalParticipants,
    watchlist: Watchlist,
    /// While anybody is watched.
    channel_guard: Option<ChannelGuard>,
    /// When all of its people were last to be written anew.
    rewritten_at: Instant,
    /// Since when Redis has done all that it was told of this location. Only whoever has seen that for a whole lease knows that
    /// another one has ended because its gateway is dead, and not because Redis was away.
    healthy_since: Instant,
    /// Not before is it told of it again.
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
    /// Tells and hears until `shutdown`.
    pub(crate) fn start(redis: &Nodes, hub: &Arc<Hub>, timing: PresenceTiming, shutdown: &Shutdown) -> Self {
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

    /// Passes on what came on a location's channel.
    pub(crate) fn on_notice(&self, location: &str, payload: &[u8]) {
        let notice = match Notice::parse(payload) {
            Ok(notice) => notice,
            Err(error) => return tracing::error!(location, %error, "ignored what came on a channel"),
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

    /// Asks whether anything was ever written in the conversation of this channel. The answer goes to the hub.
    pub(crate) fn check_conversation(&self, channel: &str) {
        if let Some((location, conversation)) = shared::channel::parse_conversation(channel) {
            self.0.checks.enqueue(ConversationCheck { location, conversation });
        }
    }

    /// What these channels tell is heard from now on, and what they told before was not.
    pub(crate) fn on_subscribed(&self, channels: &[Channel]) {
        let mut locations = self.0.locations.lock();
        for channel in channels.iter().filter(|channel| channel.is_presence()) {
            let state =
                shared::channel::presence::parse_location(channel.as_str()).and_then(|name| locations.get_mut(name));
            if let Some(state) = state {
                state.watchlist.poll_all();
                self.0.lookup_requested.notify_one();
            }
        }
    }

    /// Redis may be another one than before, which knows nobody, or not all that it was told: the one that has the locations
    /// whose channel `is_concerned`. All of a location is where its channel is.
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

    /// How many people this gateway holds sockets of.
    pub(crate) fn participant_count(&self) -> usize {
        self.0.locations.lock().values().map(|state| state.local.len()).sum()
    }
}

/// Those of a conversation that its viewer is not.
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

    /// Redis has not done something, or has not said so.
    fn record_failure(&mut self) {
        let now = Instant::now();
        (self.healthy_since, self.retry_at) = (now, now + RETRY_DELAY);
    }

    fn is_empty(&self) -> bool {
        self.local.is_empty() && self.watchlist.is_empty()
    }
}

impl Inner {
    /// A name under which nobody was ever written down. A location that was empty for a while must not get the one of before: what Redis
    /// still has under that would be online again.
    fn next_incarnation(&self) -> u32 {
        self.incarnations.fetch_add(1, Ordering::Relaxed)
    }

    /// Tells sockets, and asks about conversations of which nobody knows whether they exist.
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
