//! What Redis refuses at the moment: conversations whose event log is not what it should be, and nodes that are full or dead.
//!
//! Their events stay in the outbox; everything else goes on. A refusal is tried again with a growing pause (`recovery`). Once
//! it is over, the outbox is published first, in order, and only then does the fast path take those conversations again.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use shared::channel::{self, Channel};
use shared::ids::ConversationId;
use tokio::time::Instant;

use crate::outbox::broker::{Broker, Node, NodeMap, PublishRejection, RejectionScope};

/// Between two tries; doubled each time, up to [`MAX_BACKOFF`].
const MIN_BACKOFF: Duration = Duration::from_millis(250);
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// A refusal that comes back within so long continues with its last pause.
const BACKOFF_MEMORY: Duration = Duration::from_secs(30);
/// Refusals, and conversations of one node, that are kept in mind. Past it a conversation is tried with every event.
const MAX_REJECTIONS: usize = 50_000;

/// What is refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum RejectionTarget {
    Conversation(Channel),
    Node(Node),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RejectionState {
    /// Tried again then.
    Backoff(Instant),
    /// It is over: the outbox is being published.
    Draining,
    /// It was over then.
    Recovered(Instant),
}

#[derive(Debug)]
struct Rejection {
    state: RejectionState,
    backoff: Duration,
    rejection: PublishRejection,
    /// Conversations with events that wait.
    channels: HashSet<Channel>,
}

/// Conversations whose sockets are to be told.
#[derive(Debug, Default)]
pub(super) struct WaitNotices {
    /// That their events wait.
    pub(super) waiting: Vec<Channel>,
    /// That all that waited is published.
    pub(super) over: Vec<Channel>,
}

/// Something to try.
#[derive(Debug, Clone)]
pub(super) struct Probe {
    pub(super) target: RejectionTarget,
    /// A conversation that is concerned.
    pub(super) channel: Channel,
    pub(super) rejection: PublishRejection,
}

#[derive(Debug, Default)]
pub(super) struct RejectionTracker {
    inner: Mutex<Inner>,
    /// Those that are not over, so that the fast path need not take the lock.
    active: AtomicUsize,
}

#[derive(Debug, Default)]
struct Inner {
    targets: HashMap<RejectionTarget, Rejection>,
    /// Conversations whose sockets are to be told: that their events wait, and that all that waited is published.
    notices: WaitNotices,
    /// Of `units`: they are few, and looked through for each event while any is refused.
    nodes: Vec<RejectionTarget>,
}

impl Rejection {
    fn is_active(&self) -> bool {
        !matches!(self.state, RejectionState::Recovered(_))
    }

    fn is_waiting(&self) -> bool {
        matches!(self.state, RejectionState::Backoff(_))
    }
}

impl RejectionTracker {
    pub(super) fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire) > 0
    }

    /// Whether the fast path is to leave a conversation's events to the outbox.
    pub(super) fn defers(&self, channel: &Channel, map: &NodeMap) -> bool {
        self.find(channel, map, Rejection::is_active)
    }

    /// Whether a relay of the outbox is to leave them there. Not where Redis answers: to be refused again costs nothing, and
    /// another instance may have published already what came before.
    pub(super) fn is_backing_off(&self, channel: &Channel, map: &NodeMap) -> bool {
        self.find(channel, map, |entry| entry.is_waiting() && !entry.rejection.is_answered)
    }

    fn find(&self, channel: &Channel, map: &NodeMap, is_wanted: impl Fn(&Rejection) -> bool) -> bool {
        let Inner { targets, nodes, .. } = &*self.inner.lock();
        let is_wanted = |target: &RejectionTarget| targets.get(target).filter(|entry| is_wanted(entry));
        // A conversation that waits stays with those that wait, whoever serves it now: what waits comes first.
        is_wanted(&RejectionTarget::Conversation(channel.clone())).is_some()
            || is_wanted(&RejectionTarget::Node(map.node_of(channel))).is_some()
            || nodes.iter().any(|node| is_wanted(node).is_some_and(|entry| entry.channels.contains(channel)))
    }

    /// Redis has refused an event.
    pub(super) fn record(&self, channel: &Channel, rejection: &PublishRejection, broker: &Broker) {
        let target = match rejection.scope {
            RejectionScope::Conversation => RejectionTarget::Conversation(channel.clone()),
            RejectionScope::Node => RejectionTarget::Node(broker.node_map().node_of(channel)),
        };
        self.add(&target, channel, rejection);
    }

    fn add(&self, target: &RejectionTarget, channel: &Channel, rejection: &PublishRejection) {
        let now = Instant::now();
        let mut guard = self.inner.lock();
        let Inner { targets, nodes, notices } = &mut *guard;
        if targets.len() >= MAX_REJECTIONS && !targets.contains_key(target) {
            targets.retain(|_, entry| entry.is_active());
            nodes.retain(|node| targets.contains_key(node));
            if targets.len() >= MAX_REJECTIONS {
                metrics::counter!("set_aside_overflows_total").increment(1);
                return;
            }
        }
        let entry = targets.entry(target.clone()).or_insert_with(|| {
            if matches!(target, RejectionTarget::Node(_)) {
                nodes.push(target.clone());
            }
            Rejection {
                state: RejectionState::Recovered(now),
                backoff: MIN_BACKOFF / 2,
                rejection: rejection.clone(),
                channels: HashSet::new(),
            }
        });
        if entry.channels.len() < MAX_REJECTIONS && entry.channels.insert(channel.clone()) && rejection.is_answered {
            notices.waiting.push(channel.clone());
        }
        if entry.is_waiting() {
            return;
        }
        entry.backoff = match entry.state {
            RejectionState::Recovered(at) if at.elapsed() > BACKOFF_MEMORY => MIN_BACKOFF,
            _ => (entry.backoff * 2).min(MAX_BACKOFF),
        };
        if !entry.is_active() {
            log_rejection(target, rejection);
        }
        entry.state = RejectionState::Backoff(now + entry.backoff);
        entry.rejection = rejection.clone();
        self.count(targets);
    }

    /// An event of a conversation that waits was not tried.
    pub(super) fn add_waiting_channel(&self, channel: &Channel, broker: &Broker) {
        let target = RejectionTarget::Node(broker.node_map().node_of(channel));
        let Inner { targets, notices, .. } = &mut *self.inner.lock();
        if let Some(entry) = targets.get_mut(&target).filter(|entry| entry.is_active())
            && entry.channels.len() < MAX_REJECTIONS
            && entry.channels.insert(channel.clone())
            && entry.rejection.is_answered
        {
            notices.waiting.push(channel.clone());
        }
    }

    /// Whose sockets are to be told now; with `again`, of all that wait.
    pub(super) fn take_notices(&self, again: bool) -> WaitNotices {
        let inner = &mut *self.inner.lock();
        let mut notices = std::mem::take(&mut inner.notices);
        if again {
            let waiting = inner.targets.values().filter(|entry| entry.is_active() && entry.rejection.is_answered);
            notices.waiting = waiting.flat_map(|entry| entry.channels.iter().cloned()).collect();
        }
        notices
    }

    /// What is to be tried now. What comes of it is to be said with [`Self::is_over`] or [`Self::is_not_over`].
    pub(super) fn due(&self, now: Instant) -> Vec<Probe> {
        let inner = self.inner.lock();
        let due =
            inner.targets.iter().filter(|(_, entry)| matches!(entry.state, RejectionState::Backoff(at) if at <= now));
        due.filter_map(|(target, entry)| {
            let channel = entry.channels.iter().next()?.clone();
            Some(Probe { target: target.clone(), channel, rejection: entry.rejection.clone() })
        })
        .collect()
    }

    /// Redis takes it again, and what was deferred waits in the outbox.
    pub(super) fn begin_draining(&self, target: &RejectionTarget) {
        if let Some(entry) = self.inner.lock().targets.get_mut(target).filter(|entry| entry.is_waiting()) {
            entry.state = RejectionState::Draining;
        }
    }

    /// Redis still refuses it.
    pub(super) fn extend_backoff(&self, target: &RejectionTarget) {
        if let Some(entry) = self.inner.lock().targets.get_mut(target).filter(|entry| entry.is_waiting()) {
            entry.backoff = (entry.backoff * 2).min(MAX_BACKOFF);
            entry.state = RejectionState::Backoff(Instant::now() + entry.backoff);
        }
    }

    /// Whether the outbox is being published for any.
    pub(super) fn is_draining(&self) -> bool {
        self.is_active() && self.inner.lock().targets.values().any(|entry| entry.state == RejectionState::Draining)
    }

    /// Those for which it is.
    pub(super) fn draining(&self) -> Vec<RejectionTarget> {
        let inner = self.inner.lock();
        inner
            .targets
            .iter()
            .filter(|(_, entry)| entry.state == RejectionState::Draining)
            .map(|(target, _)| target.clone())
            .collect()
    }

    /// The conversations that are known to wait with one.
    pub(super) fn conversations(&self, target: &RejectionTarget) -> Vec<ConversationId> {
        let inner = self.inner.lock();
        let channels = inner.targets.get(target).into_iter().flat_map(|entry| &entry.channels);
        channels.filter_map(|channel| Some(channel::parse_conversation(channel.as_str())?.1)).collect()
    }

    /// Rows of it were deferred while the outbox was published: they are resumed again, and soon.
    pub(super) fn back_off_again(&self, target: &RejectionTarget) {
        if let Some(entry) =
            self.inner.lock().targets.get_mut(target).filter(|entry| entry.state == RejectionState::Draining)
        {
            entry.state = RejectionState::Backoff(Instant::now() + entry.backoff);
        }
    }

    /// The outbox was published, and none of these was refused meanwhile: the fast path takes them again.
    pub(super) fn mark_drained(&self, drained: &[RejectionTarget]) {
        let Inner { targets, notices, .. } = &mut *self.inner.lock();
        for target in drained {
            if let Some(entry) = targets.get_mut(target).filter(|entry| entry.state == RejectionState::Draining) {
                entry.state = RejectionState::Recovered(Instant::now());
                notices.over.extend(std::mem::take(&mut entry.channels));
            }
        }
        // One may be set aside for another reason as well.
        let waits =
            |channel: &Channel| targets.values().any(|entry| entry.is_active() && entry.channels.contains(channel));
        notices.over.retain(|channel| !waits(channel));
        self.count(targets);
    }

    fn count(&self, targets: &HashMap<RejectionTarget, Rejection>) {
        let active = targets.values().filter(|entry| entry.is_active());
        let (nodes, conversations) = targets.iter().filter(|(_, entry)| entry.is_active()).fold(
            (0, 0),
            |(nodes, conversations), (target, _)| match target {
                RejectionTarget::Node(_) => (nodes + 1, conversations),
                RejectionTarget::Conversation(_) => (nodes, conversations + 1),
            },
        );
        self.active.store(active.count(), Ordering::Release);
        metrics::gauge!("publish_set_aside", "what" => "node").set(f64::from(nodes));
        metrics::gauge!("publish_set_aside", "what" => "conversation").set(f64::from(conversations));
    }
}

/// Says once who is set aside, and never what was written.
fn log_rejection(target: &RejectionTarget, rejection: &PublishRejection) {
    let error = &rejection.error;
    match target {
        RejectionTarget::Conversation(channel) => {
            let (location, conversation) = channel.conversation().unwrap_or_default();
            tracing::error!(
                location,
                conversation,
                error,
                "Redis refuses the events of a conversation: it is set tracker"
            );
            metrics::counter!("publish_refusals_total", "what" => "conversation").increment(1);
        }
        RejectionTarget::Node(node) => {
            tracing::error!(%node, error, "a node of Redis refuses events: its conversations are set tracker");
            metrics::counter!("publish_refusals_total", "what" => "node").increment(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn channel(n: u128) -> Channel {
        Channel::new(&"loc1".parse().unwrap(), Uuid::from_u128(n))
    }

    fn rejection() -> PublishRejection {
        PublishRejection { scope: RejectionScope::Conversation, error: "WRONGTYPE".to_owned(), is_answered: false }
    }

    #[tokio::test]
    async fn a_conversation_is_held_until_the_outbox_was_published_behind_its_recovery() {
        let (tracker, map, target) =
            (RejectionTracker::default(), NodeMap::default(), RejectionTarget::Conversation(channel(1)));
        tracker.add(&target, &channel(1), &rejection());
        assert!(
            tracker.defers(&channel(1), &map)
                && tracker.is_backing_off(&channel(1), &map)
                && !tracker.defers(&channel(2), &map)
        );
        assert!(tracker.due(Instant::now()).is_empty());
        assert_eq!(tracker.due(Instant::now() + MIN_BACKOFF).len(), 1);
        tracker.begin_draining(&target);
        assert!(
            tracker.defers(&channel(1), &map) && !tracker.is_backing_off(&channel(1), &map),
            "the relay takes it first"
        );
        tracker.mark_drained(&[target]);
        assert!(!tracker.is_active() && !tracker.defers(&channel(1), &map));
    }

    #[tokio::test]
    async fn sockets_are_told_that_their_events_wait_and_then_that_all_is_published() {
        let (tracker, target) = (RejectionTracker::default(), RejectionTarget::Conversation(channel(1)));
        tracker.add(&target, &channel(1), &PublishRejection { is_answered: true, ..rejection() });
        assert_eq!(tracker.take_notices(false).waiting, [channel(1)]);
        assert!(tracker.take_notices(false).waiting.is_empty() && tracker.take_notices(true).waiting == [channel(1)]);
        tracker.begin_draining(&target);
        tracker.mark_drained(&[target]);
        assert_eq!(tracker.take_notices(true).over, [channel(1)]);
    }

    #[tokio::test]
    async fn what_is_refused_again_while_the_outbox_is_published_stays_aside_and_waits_longer() {
        let (tracker, map, target) =
            (RejectionTracker::default(), NodeMap::default(), RejectionTarget::Conversation(channel(1)));
        tracker.add(&target, &channel(1), &rejection());
        tracker.extend_backoff(&target);
        tracker.begin_draining(&target);
        tracker.add(&target, &channel(1), &rejection());
        tracker.mark_drained(&[target]);
        assert!(tracker.defers(&channel(1), &map));
        assert!(tracker.due(Instant::now() + MIN_BACKOFF).is_empty());
    }

    #[tokio::test]
    async fn a_node_that_is_refused_holds_all_of_its_conversations() {
        let (tracker, map) = (RejectionTracker::default(), NodeMap::default());
        tracker.add(&RejectionTarget::Node(map.node_of(&channel(1))), &channel(1), &rejection());
        assert!(tracker.defers(&channel(2), &map));
    }
}
