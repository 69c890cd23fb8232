//! Which messages a socket's client has proven to have, by answering a Ping that was sent behind them.
//!
//! One Ping is in flight at most, and none follows another within [`MIN_PING_INTERVAL`]: the first message after a pause is proven at
//! once, those of a lively conversation share a Ping, since each costs a frame, an answer to read and a receipt. A Ping that
//! is due rides behind the next event, and goes alone only when none comes within [`MAX_PING_DELAY`]: a write of its own costs as
//! much as an event's.
//!
//! Ids that would pass the bound are forgotten (`gateway_proofs_dropped_total`): those messages stay undelivered in the books
//! until the client reports them itself.

use std::time::Duration;

use shared::ids::MessageId;
use tokio::time::Instant;

/// Ids that may wait for a Ping. A client that leaves its Ping unanswered is closed long before it has been sent so many.
const MAX_TRACKED: usize = 8 * 1024;
/// Between two Pings that prove something.
const MIN_PING_INTERVAL: Duration = Duration::from_millis(500);
/// Between the last Ping and one that has to go alone.
const MAX_PING_DELAY: Duration = Duration::from_secs(1);
/// Places that are kept when nothing waits.
const IDLE_CAPACITY: usize = 8;

/// What is to be done for what has not been proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PingAction {
    /// Nothing: all is proven, or the Pong that is awaited comes first.
    Idle,
    /// To send a Ping with this payload.
    Ping([u8; 8]),
    /// To ask again then.
    Wait(Instant),
}

#[derive(Debug, Default)]
pub(super) struct DeliveryTracker {
    counter: u64,
    /// Sent and not proven.
    ids: Vec<MessageId>,
    /// How many of them stand before the Ping that is in flight.
    in_flight: Option<u32>,
    pinged_at: Option<Instant>,
}

impl DeliveryTracker {
    /// A message for the socket's owner is about to be written.
    pub(super) fn track(&mut self, id: MessageId) {
        let in_flight = self.in_flight.unwrap_or(0) as usize;
        if self.ids.len() - in_flight < MAX_TRACKED {
            self.ids.push(id);
        } else {
            metrics::counter!("gateway_proofs_dropped_total").increment(1);
        }
    }

    /// Whether there is nothing to do, whatever the time.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_some() || self.ids.is_empty()
    }

    /// What to do behind what was noted. `piggyback`: something is about to be written anyway.
    pub(super) fn next_action(&mut self, now: Instant, piggyback: bool) -> PingAction {
        if self.is_idle() {
            return PingAction::Idle;
        }
        match self.pinged_at {
            Some(at) if now < at + if piggyback { MIN_PING_INTERVAL } else { MAX_PING_DELAY } => {
                PingAction::Wait(at + MAX_PING_DELAY)
            }
            _ => PingAction::Ping(self.ping(now)),
        }
    }

    /// A Ping, whether or not there is something to prove, unless one is in flight.
    pub(super) fn heartbeat_ping(&mut self, now: Instant) -> Option<[u8; 8]> {
        if self.in_flight.is_some() { None } else { Some(self.ping(now)) }
    }

    /// What is left to be proven when the socket ends.
    pub(super) fn into_closing(self) -> ClosingTracker {
        let in_flight = self.in_flight.map(|before| (self.counter, before as usize));
        ClosingTracker { ids: self.ids, acknowledged: 0, in_flight, last: (self.counter + 1, None) }
    }

    fn ping(&mut self, now: Instant) -> [u8; 8] {
        // Twice the limit at most.
        self.in_flight = u32::try_from(self.ids.len()).ok();
        self.pinged_at = Some(now);
        self.counter += 1;
        self.counter.to_be_bytes()
    }

    /// Whether this is the payload of the Ping in flight.
    pub(super) fn is_expected_pong(&self, payload: &[u8]) -> bool {
        self.in_flight.is_some() && payload == self.counter.to_be_bytes()
    }

    /// What a Pong proves. Nothing, unless it echoes the Ping in flight.
    pub(super) fn on_pong(&mut self, payload: &[u8]) -> Vec<MessageId> {
        match self.in_flight {
            Some(before) if payload == self.counter.to_be_bytes() => {
                self.in_flight = None;
                let rest = self.ids.split_off(before as usize);
                let acknowledged = std::mem::replace(&mut self.ids, rest);
                if self.ids.is_empty() && self.ids.capacity() > IDLE_CAPACITY {
                    self.ids = Vec::new();
                }
                acknowledged
            }
            _ => Vec::new(),
        }
    }
}

/// Proofs of a socket that is being closed. Its Ping in flight still proves what it did, whatever becomes of the last one.
#[derive(Debug)]
pub(super) struct ClosingTracker {
    ids: Vec<MessageId>,
    /// How many of them have been proven.
    acknowledged: usize,
    in_flight: Option<(u64, usize)>,
    last: (u64, Option<usize>),
}

impl ClosingTracker {
    /// The last Ping, behind everything, unless there is nothing that only its Pong would prove.
    pub(super) fn ping(&mut self) -> Option<[u8; 8]> {
        let (counter, before) = &mut self.last;
        if self.in_flight.map_or(0, |(_, before)| before) == self.ids.len() {
            return None;
        }
        *before = Some(self.ids.len());
        Some(counter.to_be_bytes())
    }

    /// What a Pong proves that was not proven yet.
    pub(super) fn on_pong(&mut self, payload: &[u8]) -> Vec<MessageId> {
        let (counter, before) = self.last;
        let pings = [self.in_flight, before.map(|before| (counter, before))];
        let echoed = pings.into_iter().flatten().find(|(counter, _)| payload == counter.to_be_bytes());
        let Some(acknowledged) = echoed.and_then(|(_, before)| self.ids.get(self.acknowledged..before)) else {
            return Vec::new();
        };
        self.acknowledged += acknowledged.len();
        acknowledged.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    impl DeliveryTracker {
        /// As if so much more time had passed since the last Ping.
        pub(in crate::session) fn pinged_earlier_by(&mut self, by: Duration) {
            self.pinged_at = self.pinged_at.map(|at| at - by);
        }
    }

    fn id(n: u128) -> MessageId {
        Uuid::from_u128(n)
    }

    /// The Ping that is to be sent, once those before it are long past.
    fn ping(tracker: &mut DeliveryTracker) -> Option<[u8; 8]> {
        match tracker.next_action(Instant::now() + 1000 * MAX_PING_DELAY, true) {
            PingAction::Ping(payload) => {
                tracker.pinged_at = None;
                Some(payload)
            }
            _ => None,
        }
    }

    #[test]
    fn messages_of_a_lively_conversation_share_a_ping() {
        let (mut tracker, now) = (DeliveryTracker::default(), Instant::now());
        tracker.track(id(1));
        let PingAction::Ping(first) = tracker.next_action(now, true) else { panic!("the first is proven at once") };
        assert_eq!(tracker.on_pong(&first), [id(1)]);
        for n in 2..5 {
            tracker.track(id(n));
            assert_eq!(tracker.next_action(now + MIN_PING_INTERVAL / 2, true), PingAction::Wait(now + MAX_PING_DELAY));
        }
        let PingAction::Ping(second) = tracker.next_action(now + MIN_PING_INTERVAL, true) else {
            panic!("their time has come")
        };
        assert_eq!(tracker.on_pong(&second), [2, 3, 4].map(id));
        assert_eq!(tracker.next_action(now + MIN_PING_INTERVAL, true), PingAction::Idle);
    }

    #[test]
    fn a_ping_waits_for_something_to_ride_behind_and_then_goes_alone() {
        let (mut tracker, now) = (DeliveryTracker::default(), Instant::now());
        tracker.track(id(1));
        let PingAction::Ping(first) = tracker.next_action(now, false) else { panic!("the first is proven at once") };
        tracker.track(id(2));
        assert_eq!(tracker.on_pong(&first), [id(1)]);
        assert_eq!(tracker.next_action(now + MIN_PING_INTERVAL, false), PingAction::Wait(now + MAX_PING_DELAY));
        let PingAction::Ping(second) = tracker.next_action(now + MAX_PING_DELAY, false) else {
            panic!("nothing came to ride behind")
        };
        assert_eq!(tracker.on_pong(&second), [id(2)]);
    }

    #[test]
    fn a_pong_proves_what_was_sent_before_its_ping_and_no_more() {
        let mut tracker = DeliveryTracker::default();
        tracker.track(id(1));
        let first = ping(&mut tracker).unwrap();
        tracker.track(id(2));
        assert_eq!(ping(&mut tracker), None, "one ping in flight at most");
        assert_eq!(tracker.on_pong(&first), [id(1)]);
        let second = ping(&mut tracker).unwrap();
        assert_ne!(first, second);
        assert_eq!(tracker.on_pong(&second), [id(2)]);
        assert_eq!(ping(&mut tracker), None, "nothing is left to prove");
    }

    #[test]
    fn other_pongs_prove_nothing() {
        let mut tracker = DeliveryTracker::default();
        tracker.track(id(1));
        assert!(tracker.on_pong(&0_u64.to_be_bytes()).is_empty(), "before any ping");
        let ping = ping(&mut tracker).unwrap();
        for payload in [&b""[..], b"hello", &[&ping[..], b"x"].concat()] {
            assert!(tracker.on_pong(payload).is_empty());
        }
        assert_eq!(tracker.on_pong(&ping), [id(1)]);
        assert!(tracker.on_pong(&ping).is_empty(), "the same pong again");
    }

    #[test]
    fn heartbeats_prove_too() {
        let mut tracker = DeliveryTracker::default();
        let ping = tracker.heartbeat_ping(Instant::now()).unwrap();
        tracker.track(id(1));
        assert!(tracker.on_pong(&ping).is_empty());
        let ping = tracker.heartbeat_ping(Instant::now()).unwrap();
        assert_eq!(tracker.on_pong(&ping), [id(1)]);
    }

    #[test]
    fn a_farewell_proves_all_that_is_left() {
        assert_eq!(DeliveryTracker::default().into_closing().ping(), None, "nothing to prove");
        // Whoever answers every Ping, and whoever answers only the last.
        for answers_both in [true, false] {
            let mut tracker = DeliveryTracker::default();
            tracker.track(id(1));
            let in_flight = ping(&mut tracker).unwrap();
            tracker.track(id(2));
            let mut closing = tracker.into_closing();
            let last = closing.ping().unwrap();
            let mut acknowledged = Vec::new();
            if answers_both {
                acknowledged = closing.on_pong(&in_flight);
                assert_eq!(acknowledged, [id(1)]);
                assert!(closing.on_pong(&in_flight).is_empty(), "the same pong again");
            }
            acknowledged.extend(closing.on_pong(&last));
            assert_eq!(acknowledged, [id(1), id(2)]);
            assert!(closing.on_pong(&in_flight).is_empty(), "it comes too late");
        }
    }

    #[test]
    fn what_the_ping_in_flight_proves_needs_no_other() {
        let mut tracker = DeliveryTracker::default();
        tracker.track(id(1));
        let in_flight = ping(&mut tracker).unwrap();
        let mut closing = tracker.into_closing();
        assert_eq!(closing.ping(), None);
        assert!(closing.on_pong(&2_u64.to_be_bytes()).is_empty(), "never sent");
        assert_eq!(closing.on_pong(&in_flight), [id(1)]);
    }

    #[test]
    fn ids_that_pass_the_bound_are_forgotten() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let mut tracker = DeliveryTracker::default();
        for n in 0..=MAX_TRACKED as u128 {
            tracker.track(id(n));
        }
        let ping = ping(&mut tracker).unwrap();
        assert_eq!(tracker.on_pong(&ping).len(), MAX_TRACKED);
        assert!(recorder.handle().render().contains("gateway_proofs_dropped_total 1"));
    }
}
