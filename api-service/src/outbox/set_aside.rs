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

use crate::publisher::{Broker, Node, NodeMap, Reach, Refusal};

/// Between two tries; doubled each time, up to [`LONGEST_PAUSE`].
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A refusal that comes back within so long continues with its last pause.
const REMEMBERED: Duration = Duration::from_secs(30);
/// Refusals, and conversations of one node, that are kept in mind. Past it a conversation is tried with every event.
const MOST: usize = 50_000;

/// What is refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Unit {
    Conversation(Channel),
    Node(Node),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Tried again then.
    Waiting(Instant),
    /// It is over: the outbox is being published.
    Draining,
    /// It was over then.
    Over(Instant),
}

#[derive(Debug)]
struct Held {
    stage: Stage,
    pause: Duration,
    refusal: Refusal,
    /// Conversations with events that wait.
    channels: HashSet<Channel>,
}

/// Conversations whose sockets are to be told.
#[derive(Debug, Default)]
pub(super) struct News {
    /// That their events wait.
    pub(super) waiting: Vec<Channel>,
    /// That all that waited is published.
    pub(super) over: Vec<Channel>,
}

/// Something to try.
#[derive(Debug, Clone)]
pub(super) struct Try {
    pub(super) unit: Unit,
    /// A conversation that is concerned.
    pub(super) channel: Channel,
    pub(super) refusal: Refusal,
}

#[derive(Debug, Default)]
pub(super) struct SetAside {
    inner: Mutex<Inner>,
    /// Those that are not over, so that the fast path need not take the lock.
    active: AtomicUsize,
}

#[derive(Debug, Default)]
struct Inner {
    units: HashMap<Unit, Held>,
    /// Conversations whose sockets are to be told: that their events wait, and that all that waited is published.
    news: News,
    /// Of `units`: they are few, and looked through for each event while any is refused.
    nodes: Vec<Unit>,
}

impl Held {
    fn is_active(&self) -> bool {
        !matches!(self.stage, Stage::Over(_))
    }

    fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Waiting(_))
    }
}

impl SetAside {
    pub(super) fn is_any(&self) -> bool {
        self.active.load(Ordering::Acquire) > 0
    }

    /// Whether the fast path is to leave a conversation's events to the outbox.
    pub(super) fn holds(&self, channel: &Channel, map: &NodeMap) -> bool {
        self.find(channel, map, Held::is_active)
    }

    /// Whether a relay of the outbox is to leave them there. Not where Redis answers: to be refused again costs nothing, and
    /// another instance may have published already what came before.
    pub(super) fn waits(&self, channel: &Channel, map: &NodeMap) -> bool {
        self.find(channel, map, |held| held.is_waiting() && !held.refusal.is_answered)
    }

    fn find(&self, channel: &Channel, map: &NodeMap, is_wanted: impl Fn(&Held) -> bool) -> bool {
        let Inner { units, nodes, .. } = &*self.inner.lock();
        let is_wanted = |unit: &Unit| units.get(unit).filter(|held| is_wanted(held));
        // A conversation that waits stays with those that wait, whoever serves it now: what waits comes first.
        is_wanted(&Unit::Conversation(channel.clone())).is_some()
            || is_wanted(&Unit::Node(map.node_of(channel))).is_some()
            || nodes.iter().any(|node| is_wanted(node).is_some_and(|held| held.channels.contains(channel)))
    }

    /// Redis has refused an event.
    pub(super) fn refused(&self, channel: &Channel, refusal: &Refusal, broker: &Broker) {
        let unit = match refusal.reach {
            Reach::Conversation => Unit::Conversation(channel.clone()),
            Reach::Node => Unit::Node(broker.map().node_of(channel)),
        };
        self.add(&unit, channel, refusal);
    }

    fn add(&self, unit: &Unit, channel: &Channel, refusal: &Refusal) {
        let now = Instant::now();
        let mut guard = self.inner.lock();
        let Inner { units, nodes, news } = &mut *guard;
        if units.len() >= MOST && !units.contains_key(unit) {
            units.retain(|_, held| held.is_active());
            nodes.retain(|node| units.contains_key(node));
            if units.len() >= MOST {
                metrics::counter!("set_aside_overflows_total").increment(1);
                return;
            }
        }
        let held = units.entry(unit.clone()).or_insert_with(|| {
            if matches!(unit, Unit::Node(_)) {
                nodes.push(unit.clone());
            }
            Held {
                stage: Stage::Over(now),
                pause: SHORTEST_PAUSE / 2,
                refusal: refusal.clone(),
                channels: HashSet::new(),
            }
        });
        if held.channels.len() < MOST && held.channels.insert(channel.clone()) && refusal.is_answered {
            news.waiting.push(channel.clone());
        }
        if held.is_waiting() {
            return;
        }
        held.pause = match held.stage {
            Stage::Over(at) if at.elapsed() > REMEMBERED => SHORTEST_PAUSE,
            _ => (held.pause * 2).min(LONGEST_PAUSE),
        };
        if !held.is_active() {
            tell(unit, refusal);
        }
        held.stage = Stage::Waiting(now + held.pause);
        held.refusal = refusal.clone();
        self.count(units);
    }

    /// An event of a conversation that waits was not tried.
    pub(super) fn also(&self, channel: &Channel, broker: &Broker) {
        let unit = Unit::Node(broker.map().node_of(channel));
        let Inner { units, news, .. } = &mut *self.inner.lock();
        if let Some(held) = units.get_mut(&unit).filter(|held| held.is_active())
            && held.channels.len() < MOST
            && held.channels.insert(channel.clone())
            && held.refusal.is_answered
        {
            news.waiting.push(channel.clone());
        }
    }

    /// Whose sockets are to be told now; with `again`, of all that wait.
    pub(super) fn news(&self, again: bool) -> News {
        let inner = &mut *self.inner.lock();
        let mut news = std::mem::take(&mut inner.news);
        if again {
            let waiting = inner.units.values().filter(|held| held.is_active() && held.refusal.is_answered);
            news.waiting = waiting.flat_map(|held| held.channels.iter().cloned()).collect();
        }
        news
    }

    /// What is to be tried now. What comes of it is to be said with [`Self::is_over`] or [`Self::is_not_over`].
    pub(super) fn due(&self, now: Instant) -> Vec<Try> {
        let inner = self.inner.lock();
        let due = inner.units.iter().filter(|(_, held)| matches!(held.stage, Stage::Waiting(at) if at <= now));
        due.filter_map(|(unit, held)| {
            let channel = held.channels.iter().next()?.clone();
            Some(Try { unit: unit.clone(), channel, refusal: held.refusal.clone() })
        })
        .collect()
    }

    /// Redis takes it again, and what was deferred waits in the outbox.
    pub(super) fn is_over(&self, unit: &Unit) {
        if let Some(held) = self.inner.lock().units.get_mut(unit).filter(|held| held.is_waiting()) {
            held.stage = Stage::Draining;
        }
    }

    /// Redis still refuses it.
    pub(super) fn is_not_over(&self, unit: &Unit) {
        if let Some(held) = self.inner.lock().units.get_mut(unit).filter(|held| held.is_waiting()) {
            held.pause = (held.pause * 2).min(LONGEST_PAUSE);
            held.stage = Stage::Waiting(Instant::now() + held.pause);
        }
    }

    /// Whether the outbox is being published for any.
    pub(super) fn is_draining(&self) -> bool {
        self.is_any() && self.inner.lock().units.values().any(|held| held.stage == Stage::Draining)
    }

    /// Those for which it is.
    pub(super) fn draining(&self) -> Vec<Unit> {
        let inner = self.inner.lock();
        inner.units.iter().filter(|(_, held)| held.stage == Stage::Draining).map(|(unit, _)| unit.clone()).collect()
    }

    /// The conversations that are known to wait with one.
    pub(super) fn conversations(&self, unit: &Unit) -> Vec<ConversationId> {
        let inner = self.inner.lock();
        let channels = inner.units.get(unit).into_iter().flat_map(|held| &held.channels);
        channels.filter_map(|channel| Some(channel::parse_conversation(channel.as_str())?.1)).collect()
    }

    /// Rows of it were deferred while the outbox was published: they are resumed again, and soon.
    pub(super) fn is_deferred_again(&self, unit: &Unit) {
        if let Some(held) = self.inner.lock().units.get_mut(unit).filter(|held| held.stage == Stage::Draining) {
            held.stage = Stage::Waiting(Instant::now() + held.pause);
        }
    }

    /// The outbox was published, and none of these was refused meanwhile: the fast path takes them again.
    pub(super) fn drained(&self, drained: &[Unit]) {
        let Inner { units, news, .. } = &mut *self.inner.lock();
        for unit in drained {
            if let Some(held) = units.get_mut(unit).filter(|held| held.stage == Stage::Draining) {
                held.stage = Stage::Over(Instant::now());
                news.over.extend(std::mem::take(&mut held.channels));
            }
        }
        // One may be set aside for another reason as well.
        let waits = |channel: &Channel| units.values().any(|held| held.is_active() && held.channels.contains(channel));
        news.over.retain(|channel| !waits(channel));
        self.count(units);
    }

    fn count(&self, units: &HashMap<Unit, Held>) {
        let active = units.values().filter(|held| held.is_active());
        let (nodes, conversations) =
            units.iter().filter(|(_, held)| held.is_active()).fold((0, 0), |(nodes, conversations), (unit, _)| {
                match unit {
                    Unit::Node(_) => (nodes + 1, conversations),
                    Unit::Conversation(_) => (nodes, conversations + 1),
                }
            });
        self.active.store(active.count(), Ordering::Release);
        metrics::gauge!("publish_set_aside", "what" => "node").set(f64::from(nodes));
        metrics::gauge!("publish_set_aside", "what" => "conversation").set(f64::from(conversations));
    }
}

/// Says once who is set aside, and never what was written.
fn tell(unit: &Unit, refusal: &Refusal) {
    let error = &refusal.error;
    match unit {
        Unit::Conversation(channel) => {
            let (location, conversation) = channel.conversation().unwrap_or_default();
            tracing::error!(
                location,
                conversation,
                error,
                "Redis refuses the events of a conversation: it is set aside"
            );
            metrics::counter!("publish_refusals_total", "what" => "conversation").increment(1);
        }
        Unit::Node(node) => {
            tracing::error!(%node, error, "a node of Redis refuses events: its conversations are set aside");
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

    fn refusal() -> Refusal {
        Refusal { reach: Reach::Conversation, error: "WRONGTYPE".to_owned(), is_answered: false }
    }

    #[tokio::test]
    async fn a_conversation_is_held_until_the_outbox_was_published_behind_its_recovery() {
        let (aside, map, unit) = (SetAside::default(), NodeMap::default(), Unit::Conversation(channel(1)));
        aside.add(&unit, &channel(1), &refusal());
        assert!(aside.holds(&channel(1), &map) && aside.waits(&channel(1), &map) && !aside.holds(&channel(2), &map));
        assert!(aside.due(Instant::now()).is_empty());
        assert_eq!(aside.due(Instant::now() + SHORTEST_PAUSE).len(), 1);
        aside.is_over(&unit);
        assert!(aside.holds(&channel(1), &map) && !aside.waits(&channel(1), &map), "the relay takes it first");
        aside.drained(&[unit]);
        assert!(!aside.is_any() && !aside.holds(&channel(1), &map));
    }

    #[tokio::test]
    async fn sockets_are_told_that_their_events_wait_and_then_that_all_is_published() {
        let (aside, unit) = (SetAside::default(), Unit::Conversation(channel(1)));
        aside.add(&unit, &channel(1), &Refusal { is_answered: true, ..refusal() });
        assert_eq!(aside.news(false).waiting, [channel(1)]);
        assert!(aside.news(false).waiting.is_empty() && aside.news(true).waiting == [channel(1)]);
        aside.is_over(&unit);
        aside.drained(&[unit]);
        assert_eq!(aside.news(true).over, [channel(1)]);
    }

    #[tokio::test]
    async fn what_is_refused_again_while_the_outbox_is_published_stays_aside_and_waits_longer() {
        let (aside, map, unit) = (SetAside::default(), NodeMap::default(), Unit::Conversation(channel(1)));
        aside.add(&unit, &channel(1), &refusal());
        aside.is_not_over(&unit);
        aside.is_over(&unit);
        aside.add(&unit, &channel(1), &refusal());
        aside.drained(&[unit]);
        assert!(aside.holds(&channel(1), &map));
        assert!(aside.due(Instant::now() + SHORTEST_PAUSE).is_empty());
    }

    #[tokio::test]
    async fn a_node_that_is_refused_holds_all_of_its_conversations() {
        let (aside, map) = (SetAside::default(), NodeMap::default());
        aside.add(&Unit::Node(map.node_of(&channel(1))), &channel(1), &refusal());
        assert!(aside.holds(&channel(2), &map));
    }
}
