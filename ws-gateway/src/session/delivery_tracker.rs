//! Which messages the client has received, proven by WebSocket Ping and Pong.
//!
//! A client answers a Ping with a Pong, in order (RFC 6455, section 5.5.3). A Ping that is sent behind messages is
//! answered only after the client has received them. So the Pong acknowledges every message before its Ping, and no
//! client code is needed.
//!
//! 1. `track` notes the id of each message that is written.
//! 2. `next_action` sends a Ping with a counter as payload. `in_flight` is the number of ids before it.
//! 3. `on_pong` with the same counter returns these ids. Another payload acknowledges nothing.
//!
//! At most one Ping is in flight, and two are at least [`MIN_PING_INTERVAL`] apart: each costs a frame, a read and a
//! receipt. A due Ping goes out with the next event, because an extra write costs as much as an event. Without one it
//! goes alone after [`MAX_PING_DELAY`].
//!
//! Ids beyond the bound are dropped (`ehr_chat_gateway_untracked_deliveries_total`). Such messages stay undelivered
//! until the client reports them.

use std::time::Duration;

use shared::contract::ids::MessageId;
use tokio::time::Instant;

/// Ids that may wait for a Pong. A client that ignores Pings is closed long before this.
const MAX_TRACKED: usize = 8 * 1024;
/// Between two delivery Pings.
const MIN_PING_INTERVAL: Duration = Duration::from_millis(500);
/// After this, a Ping goes out without an event.
const MAX_PING_DELAY: Duration = Duration::from_secs(1);
/// Capacity that an empty tracker keeps.
const IDLE_CAPACITY: usize = 8;

/// What to do for unacknowledged messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PingAction {
    /// Nothing is unacknowledged, or a Ping is in flight.
    Idle,
    /// Send a Ping with this payload.
    Ping([u8; 8]),
    /// Ask again at this time.
    Wait(Instant),
}

#[derive(Debug, Default)]
pub(super) struct DeliveryTracker {
    counter: u64,
    /// Written and not acknowledged.
    ids: Vec<MessageId>,
    /// How many of them precede the Ping in flight.
    in_flight: Option<u32>,
    pinged_at: Option<Instant>,
}

impl DeliveryTracker {
    /// A message for the socket's participant is about to be written.
    pub(super) fn track(&mut self, id: MessageId) {
        let in_flight = self.in_flight.unwrap_or(0) as usize;
        if self.ids.len() - in_flight < MAX_TRACKED {
            self.ids.push(id);
        } else {
            metrics::counter!("ehr_chat_gateway_untracked_deliveries_total").increment(1);
        }
    }

    /// Whether there is nothing to do at any time.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_some() || self.ids.is_empty()
    }

    /// What to do for the tracked messages. `piggyback`: another frame is about to be written.
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

    /// A heartbeat Ping, unless one is in flight. It acknowledges messages as well.
    pub(super) fn heartbeat_ping(&mut self, now: Instant) -> Option<[u8; 8]> {
        if self.in_flight.is_some() { None } else { Some(self.ping(now)) }
    }

    /// The state for the closing handshake.
    pub(super) fn into_closing(self) -> ClosingTracker {
        let in_flight = self.in_flight.map(|before| (self.counter, before as usize));
        ClosingTracker { ids: self.ids, acknowledged: 0, in_flight, last: (self.counter + 1, None) }
    }

    fn ping(&mut self, now: Instant) -> [u8; 8] {
        // At most twice `MAX_TRACKED`.
        self.in_flight = u32::try_from(self.ids.len()).ok();
        self.pinged_at = Some(now);
        self.counter += 1;
        self.counter.to_be_bytes()
    }

    /// Whether this is the payload of the Ping in flight.
    pub(super) fn is_expected_pong(&self, payload: &[u8]) -> bool {
        self.in_flight.is_some() && payload == self.counter.to_be_bytes()
    }

    /// The messages that a Pong acknowledges: none, unless it echoes the Ping in flight.
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

/// The tracker of a socket that is being closed. A Pong to the earlier Ping in flight still counts.
#[derive(Debug)]
pub(super) struct ClosingTracker {
    ids: Vec<MessageId>,
    /// How many of them are acknowledged.
    acknowledged: usize,
    in_flight: Option<(u64, usize)>,
    last: (u64, Option<usize>),
}

impl ClosingTracker {
    /// The last Ping, unless the one in flight covers every message.
    pub(super) fn ping(&mut self) -> Option<[u8; 8]> {
        let (counter, before) = &mut self.last;
        if self.in_flight.map_or(0, |(_, before)| before) == self.ids.len() {
            return None;
        }
        *before = Some(self.ids.len());
        Some(counter.to_be_bytes())
    }

    /// The messages that a Pong newly acknowledges.
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
        /// Pretends that the last Ping was sent earlier.
        pub(in crate::session) fn pinged_earlier_by(&mut self, by: Duration) {
            self.pinged_at = self.pinged_at.map(|at| at - by);
        }
    }

    fn id(n: u128) -> MessageId {
        Uuid::from_u128(n)
    }

    /// The next Ping, after the interval has passed.
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
    fn frequent_messages_share_one_ping() {
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
    fn ping_waits_for_next_event_then_goes_alone() {
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
    fn pong_acknowledges_only_messages_before_its_ping() {
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
    fn unrelated_pongs_acknowledge_nothing() {
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
    fn heartbeat_pong_acknowledges_messages() {
        let mut tracker = DeliveryTracker::default();
        let ping = tracker.heartbeat_ping(Instant::now()).unwrap();
        tracker.track(id(1));
        assert!(tracker.on_pong(&ping).is_empty());
        let ping = tracker.heartbeat_ping(Instant::now()).unwrap();
        assert_eq!(tracker.on_pong(&ping), [id(1)]);
    }

    #[test]
    fn closing_ping_acknowledges_all_remaining_messages() {
        assert_eq!(DeliveryTracker::default().into_closing().ping(), None, "nothing to prove");
        // A client that answers every Ping, and one that answers only the last.
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
    fn closing_sends_no_ping_when_one_in_flight_covers_all() {
        let mut tracker = DeliveryTracker::default();
        tracker.track(id(1));
        let in_flight = ping(&mut tracker).unwrap();
        let mut closing = tracker.into_closing();
        assert_eq!(closing.ping(), None);
        assert!(closing.on_pong(&2_u64.to_be_bytes()).is_empty(), "never sent");
        assert_eq!(closing.on_pong(&in_flight), [id(1)]);
    }

    #[test]
    fn ids_beyond_limit_are_dropped_and_counted() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let mut tracker = DeliveryTracker::default();
        for n in 0..=MAX_TRACKED as u128 {
            tracker.track(id(n));
        }
        let ping = ping(&mut tracker).unwrap();
        assert_eq!(tracker.on_pong(&ping).len(), MAX_TRACKED);
        assert!(recorder.handle().render().contains("ehr_chat_gateway_untracked_deliveries_total 1"));
    }
}
