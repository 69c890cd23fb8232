//! Conversations and nodes of Redis that reject events at present: an event log of the wrong type, or a node that is full or
//! dead.
//!
//! Their events stay in the outbox; everything else proceeds. A rejected target is probed with growing backoff (`recovery`). When
//! it accepts events again, the outbox is published first, in order, and then the fast path resumes.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use shared::contract::ids::ConversationId;
use shared::contract::redis::keys::{self, Channel};
use tokio::time::Instant;

use crate::outbox::broker::{Broker, Node, NodeMap, PublishRejection, RejectionScope};

/// Between two probes; doubled each time, up to [`MAX_BACKOFF`].
const MIN_BACKOFF: Duration = Duration::from_millis(250);
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// A rejection that recurs this soon continues with its last backoff.
const BACKOFF_MEMORY: Duration = Duration::from_secs(30);
/// Rejections, and waiting conversations per rejection. Beyond this, every event is tried.
const MAX_REJECTIONS: usize = 50_000;

/// What Redis rejects.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum RejectionTarget {
    Conversation(Channel),
    Node(Node),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RejectionState {
    /// Probed at this time.
    Backoff(Instant),
    /// Redis accepts it again; the outbox is being published.
    Draining,
    /// It recovered at this time.
    Recovered(Instant),
}

#[derive(Debug)]
struct Rejection {
    state: RejectionState,
    backoff: Duration,
    rejection: PublishRejection,
    /// Conversations with waiting events.
    channels: HashSet<Channel>,
}

/// Conversations whose sockets must be notified.
#[derive(Debug, Default)]
pub(super) struct WaitNotices {
    /// Their events wait.
    pub(super) waiting: Vec<Channel>,
    /// All their waiting events were published.
    pub(super) over: Vec<Channel>,
}

/// A due probe.
#[derive(Debug, Clone)]
pub(super) struct Probe {
    pub(super) target: RejectionTarget,
    /// A conversation of the target.
    pub(super) channel: Channel,
    pub(super) rejection: PublishRejection,
}

#[derive(Debug, Default)]
pub(super) struct RejectionTracker {
    inner: Mutex<Inner>,
    /// Number of active rejections, so that the fast path can skip the lock.
    active: AtomicUsize,
}

#[derive(Debug, Default)]
struct Inner {
    targets: HashMap<RejectionTarget, Rejection>,
    /// Notices that are not sent yet.
    notices: WaitNotices,
    /// The nodes among `targets`: few, and searched for every event while any rejection is active.
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

    /// Whether the fast path must leave a conversation's events to the outbox.
    pub(super) fn defers(&self, channel: &Channel, map: &NodeMap) -> bool {
        self.find(channel, map, Rejection::is_active)
    }

    /// Whether the relay must leave them too. Not where Redis answers: a repeated rejection costs nothing, and another instance
    /// may have published the predecessors.
    pub(super) fn is_backing_off(&self, channel: &Channel, map: &NodeMap) -> bool {
        self.find(channel, map, |entry| entry.is_waiting() && !entry.rejection.is_answered)
    }

    fn find(&self, channel: &Channel, map: &NodeMap, is_wanted: impl Fn(&Rejection) -> bool) -> bool {
        let Inner { targets, nodes, .. } = &*self.inner.lock();
        let is_wanted = |target: &RejectionTarget| targets.get(target).filter(|entry| is_wanted(entry));
        // A waiting conversation stays with its rejection, even if another node serves it now: its older events come first.
        is_wanted(&RejectionTarget::Conversation(channel.clone())).is_some()
            || is_wanted(&RejectionTarget::Node(map.node_of(channel))).is_some()
            || nodes.iter().any(|node| is_wanted(node).is_some_and(|entry| entry.channels.contains(channel)))
    }

    /// Records that Redis rejected an event.
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
                metrics::counter!("ehr_chat_publish_deferred_overflows_total").increment(1);
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

    /// Records that an event of a waiting conversation was not tried.
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

    /// Takes the pending notices; with `again`, the notices of all waiting conversations.
    pub(super) fn take_notices(&self, again: bool) -> WaitNotices {
        let inner = &mut *self.inner.lock();
        let mut notices = std::mem::take(&mut inner.notices);
        if again {
            let waiting = inner.targets.values().filter(|entry| entry.is_active() && entry.rejection.is_answered);
            notices.waiting = waiting.flat_map(|entry| entry.channels.iter().cloned()).collect();
        }
        notices
    }

    /// The probes that are due. Report their results with [`Self::begin_draining`] or [`Self::extend_backoff`].
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

    /// Redis accepts the target again, and its deferred rows were resumed.
    pub(super) fn begin_draining(&self, target: &RejectionTarget) {
        if let Some(entry) = self.inner.lock().targets.get_mut(target).filter(|entry| entry.is_waiting()) {
            entry.state = RejectionState::Draining;
        }
    }

    /// Redis still rejects the target.
    pub(super) fn extend_backoff(&self, target: &RejectionTarget) {
        if let Some(entry) = self.inner.lock().targets.get_mut(target).filter(|entry| entry.is_waiting()) {
            entry.backoff = (entry.backoff * 2).min(MAX_BACKOFF);
            entry.state = RejectionState::Backoff(Instant::now() + entry.backoff);
        }
    }

    /// Whether the outbox is being published for any target.
    pub(super) fn is_draining(&self) -> bool {
        self.is_active() && self.inner.lock().targets.values().any(|entry| entry.state == RejectionState::Draining)
    }

    /// The targets for which the outbox is being published.
    pub(super) fn draining(&self) -> Vec<RejectionTarget> {
        let inner = self.inner.lock();
        inner
            .targets
            .iter()
            .filter(|(_, entry)| entry.state == RejectionState::Draining)
            .map(|(target, _)| target.clone())
            .collect()
    }

    /// The conversations known to wait for a target.
    pub(super) fn conversations(&self, target: &RejectionTarget) -> Vec<ConversationId> {
        let inner = self.inner.lock();
        let channels = inner.targets.get(target).into_iter().flat_map(|entry| &entry.channels);
        channels.filter_map(|channel| Some(keys::parse_conversation(channel.as_str())?.1)).collect()
    }

    /// Rows of the target were deferred during the catch-up: they are resumed again soon.
    pub(super) fn back_off_again(&self, target: &RejectionTarget) {
        if let Some(entry) =
            self.inner.lock().targets.get_mut(target).filter(|entry| entry.state == RejectionState::Draining)
        {
            entry.state = RejectionState::Backoff(Instant::now() + entry.backoff);
        }
    }

    /// The outbox was published without a new rejection: the fast path resumes these targets.
    pub(super) fn mark_drained(&self, drained: &[RejectionTarget]) {
        let Inner { targets, notices, .. } = &mut *self.inner.lock();
        for target in drained {
            if let Some(entry) = targets.get_mut(target).filter(|entry| entry.state == RejectionState::Draining) {
                entry.state = RejectionState::Recovered(Instant::now());
                notices.over.extend(std::mem::take(&mut entry.channels));
            }
        }
        // A conversation may wait for another target too.
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
        metrics::gauge!("ehr_chat_publish_deferred", "what" => "node").set(f64::from(nodes));
        metrics::gauge!("ehr_chat_publish_deferred", "what" => "conversation").set(f64::from(conversations));
    }
}

/// Logs a new rejection, never content.
fn log_rejection(target: &RejectionTarget, rejection: &PublishRejection) {
    let error = &rejection.error;
    match target {
        RejectionTarget::Conversation(channel) => {
            let (location, conversation) = channel.conversation().unwrap_or_default();
            tracing::error!(location, conversation, error, "conversation deferred");
            metrics::counter!("ehr_chat_publish_refusals_total", "what" => "conversation").increment(1);
        }
        RejectionTarget::Node(node) => {
            tracing::error!(%node, error, "Redis node deferred");
            metrics::counter!("ehr_chat_publish_refusals_total", "what" => "node").increment(1);
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
    async fn conversation_is_deferred_until_outbox_is_drained() {
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
    async fn sockets_are_notified_of_waiting_and_resumed_events() {
        let (tracker, target) = (RejectionTracker::default(), RejectionTarget::Conversation(channel(1)));
        tracker.add(&target, &channel(1), &PublishRejection { is_answered: true, ..rejection() });
        assert_eq!(tracker.take_notices(false).waiting, [channel(1)]);
        assert!(tracker.take_notices(false).waiting.is_empty() && tracker.take_notices(true).waiting == [channel(1)]);
        tracker.begin_draining(&target);
        tracker.mark_drained(&[target]);
        assert_eq!(tracker.take_notices(true).over, [channel(1)]);
    }

    #[tokio::test]
    async fn target_rejected_while_draining_backs_off_longer() {
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
    async fn rejected_node_defers_all_its_conversations() {
        let (tracker, map) = (RejectionTracker::default(), NodeMap::default());
        tracker.add(&RejectionTarget::Node(map.node_of(&channel(1))), &channel(1), &rejection());
        assert!(tracker.defers(&channel(2), &map));
    }
}
