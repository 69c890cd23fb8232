//! Which messages a socket's client has proven to have, by answering a Ping that was sent behind them.
//!
//! One Ping is in flight at most, and none follows another within [`APART`]: the first message after a pause is proven at
//! once, those of a lively conversation share a Ping, since each costs a frame, an answer to read and a receipt. A Ping that
//! is due rides behind the next event, and goes alone only when none comes within [`PATIENCE`]: a write of its own costs as
//! much as an event's.
//!
//! Ids that would pass the bound are forgotten (`gateway_proofs_dropped_total`): those messages stay undelivered in the books
//! until the client reports them itself.

use std::time::Duration;

use shared::ids::MessageId;
use tokio::time::Instant;

/// Ids that may wait for a Ping. A client that leaves its Ping unanswered is closed long before it has been sent so many.
const LIMIT: usize = 8 * 1024;
/// Between two Pings that prove something.
const APART: Duration = Duration::from_millis(500);
/// Between the last Ping and one that has to go alone.
const PATIENCE: Duration = Duration::from_secs(1);
/// Places that are kept when nothing waits.
const PLACES_KEPT: usize = 8;

/// What is to be done for what has not been proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: all is proven, or the Pong that is awaited comes first.
    Nothing,
    /// To send a Ping with this payload.
    Ping([u8; 8]),
    /// To ask again then.
    Later(Instant),
}

#[derive(Debug, Default)]
pub(super) struct Proofs {
    counter: u64,
    /// Sent and not proven.
    ids: Vec<MessageId>,
    /// How many of them stand before the Ping that is in flight.
    in_flight: Option<u32>,
    pinged_at: Option<Instant>,
}

impl Proofs {
    /// A message for the socket's owner is about to be written.
    pub(super) fn note(&mut self, id: MessageId) {
        let in_flight = self.in_flight.unwrap_or(0) as usize;
        if self.ids.len() - in_flight < LIMIT {
            self.ids.push(id);
        } else {
            metrics::counter!("gateway_proofs_dropped_total").increment(1);
        }
    }

    /// Whether there is nothing to do, whatever the time.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_some() || self.ids.is_empty()
    }

    /// What to do behind what was noted. `rides`: something is about to be written anyway.
    pub(super) fn next(&mut self, now: Instant, rides: bool) -> Next {
        if self.is_idle() {
            return Next::Nothing;
        }
        match self.pinged_at {
            Some(at) if now < at + if rides { APART } else { PATIENCE } => Next::Later(at + PATIENCE),
            _ => Next::Ping(self.ping(now)),
        }
    }

    /// A Ping, whether or not there is something to prove, unless one is in flight.
    pub(super) fn heartbeat(&mut self, now: Instant) -> Option<[u8; 8]> {
        if self.in_flight.is_some() { None } else { Some(self.ping(now)) }
    }

    /// What is left to be proven when the socket ends.
    pub(super) fn farewell(self) -> Last {
        let in_flight = self.in_flight.map(|before| (self.counter, before as usize));
        Last { ids: self.ids, proven: 0, in_flight, last: (self.counter + 1, None) }
    }

    fn ping(&mut self, now: Instant) -> [u8; 8] {
        // Twice the limit at most.
        self.in_flight = u32::try_from(self.ids.len()).ok();
        self.pinged_at = Some(now);
        self.counter += 1;
        self.counter.to_be_bytes()
    }

    /// Whether this is the payload of the Ping in flight.
    pub(super) fn awaits(&self, payload: &[u8]) -> bool {
        self.in_flight.is_some() && payload == self.counter.to_be_bytes()
    }

    /// What a Pong proves. Nothing, unless it echoes the Ping in flight.
    pub(super) fn pong(&mut self, payload: &[u8]) -> Vec<MessageId> {
        match self.in_flight {
            Some(before) if payload == self.counter.to_be_bytes() => {
                self.in_flight = None;
                let rest = self.ids.split_off(before as usize);
                let proven = std::mem::replace(&mut self.ids, rest);
                if self.ids.is_empty() && self.ids.capacity() > PLACES_KEPT {
                    self.ids = Vec::new();
                }
                proven
            }
            _ => Vec::new(),
        }
    }
}

/// Proofs of a socket that is being closed. Its Ping in flight still proves what it did, whatever becomes of the last one.
#[derive(Debug)]
pub(super) struct Last {
    ids: Vec<MessageId>,
    /// How many of them have been proven.
    proven: usize,
    in_flight: Option<(u64, usize)>,
    last: (u64, Option<usize>),
}

impl Last {
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
    pub(super) fn pong(&mut self, payload: &[u8]) -> Vec<MessageId> {
        let (counter, before) = self.last;
        let pings = [self.in_flight, before.map(|before| (counter, before))];
        let echoed = pings.into_iter().flatten().find(|(counter, _)| payload == counter.to_be_bytes());
        let Some(proven) = echoed.and_then(|(_, before)| self.ids.get(self.proven..before)) else { return Vec::new() };
        self.proven += proven.len();
        proven.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    impl Proofs {
        /// As if so much more time had passed since the last Ping.
        pub(in crate::session) fn pinged_earlier_by(&mut self, by: Duration) {
            self.pinged_at = self.pinged_at.map(|at| at - by);
        }
    }

    fn id(n: u128) -> MessageId {
        Uuid::from_u128(n)
    }

    /// The Ping that is to be sent, once those before it are long past.
    fn ping(proofs: &mut Proofs) -> Option<[u8; 8]> {
        match proofs.next(Instant::now() + 1000 * PATIENCE, true) {
            Next::Ping(payload) => {
                proofs.pinged_at = None;
                Some(payload)
            }
            _ => None,
        }
    }

    #[test]
    fn messages_of_a_lively_conversation_share_a_ping() {
        let (mut proofs, now) = (Proofs::default(), Instant::now());
        proofs.note(id(1));
        let Next::Ping(first) = proofs.next(now, true) else { panic!("the first is proven at once") };
        assert_eq!(proofs.pong(&first), [id(1)]);
        for n in 2..5 {
            proofs.note(id(n));
            assert_eq!(proofs.next(now + APART / 2, true), Next::Later(now + PATIENCE));
        }
        let Next::Ping(second) = proofs.next(now + APART, true) else { panic!("their time has come") };
        assert_eq!(proofs.pong(&second), [2, 3, 4].map(id));
        assert_eq!(proofs.next(now + APART, true), Next::Nothing);
    }

    #[test]
    fn a_ping_waits_for_something_to_ride_behind_and_then_goes_alone() {
        let (mut proofs, now) = (Proofs::default(), Instant::now());
        proofs.note(id(1));
        let Next::Ping(first) = proofs.next(now, false) else { panic!("the first is proven at once") };
        proofs.note(id(2));
        assert_eq!(proofs.pong(&first), [id(1)]);
        assert_eq!(proofs.next(now + APART, false), Next::Later(now + PATIENCE));
        let Next::Ping(second) = proofs.next(now + PATIENCE, false) else { panic!("nothing came to ride behind") };
        assert_eq!(proofs.pong(&second), [id(2)]);
    }

    #[test]
    fn a_pong_proves_what_was_sent_before_its_ping_and_no_more() {
        let mut proofs = Proofs::default();
        proofs.note(id(1));
        let first = ping(&mut proofs).unwrap();
        proofs.note(id(2));
        assert_eq!(ping(&mut proofs), None, "one ping in flight at most");
        assert_eq!(proofs.pong(&first), [id(1)]);
        let second = ping(&mut proofs).unwrap();
        assert_ne!(first, second);
        assert_eq!(proofs.pong(&second), [id(2)]);
        assert_eq!(ping(&mut proofs), None, "nothing is left to prove");
    }

    #[test]
    fn other_pongs_prove_nothing() {
        let mut proofs = Proofs::default();
        proofs.note(id(1));
        assert!(proofs.pong(&0_u64.to_be_bytes()).is_empty(), "before any ping");
        let ping = ping(&mut proofs).unwrap();
        for payload in [&b""[..], b"hello", &[&ping[..], b"x"].concat()] {
            assert!(proofs.pong(payload).is_empty());
        }
        assert_eq!(proofs.pong(&ping), [id(1)]);
        assert!(proofs.pong(&ping).is_empty(), "the same pong again");
    }

    #[test]
    fn heartbeats_prove_too() {
        let mut proofs = Proofs::default();
        let ping = proofs.heartbeat(Instant::now()).unwrap();
        proofs.note(id(1));
        assert!(proofs.pong(&ping).is_empty());
        let ping = proofs.heartbeat(Instant::now()).unwrap();
        assert_eq!(proofs.pong(&ping), [id(1)]);
    }

    #[test]
    fn a_farewell_proves_all_that_is_left() {
        assert_eq!(Proofs::default().farewell().ping(), None, "nothing to prove");
        // Whoever answers every Ping, and whoever answers only the last.
        for answers_both in [true, false] {
            let mut proofs = Proofs::default();
            proofs.note(id(1));
            let in_flight = ping(&mut proofs).unwrap();
            proofs.note(id(2));
            let mut farewell = proofs.farewell();
            let last = farewell.ping().unwrap();
            let mut proven = Vec::new();
            if answers_both {
                proven = farewell.pong(&in_flight);
                assert_eq!(proven, [id(1)]);
                assert!(farewell.pong(&in_flight).is_empty(), "the same pong again");
            }
            proven.extend(farewell.pong(&last));
            assert_eq!(proven, [id(1), id(2)]);
            assert!(farewell.pong(&in_flight).is_empty(), "it comes too late");
        }
    }

    #[test]
    fn what_the_ping_in_flight_proves_needs_no_other() {
        let mut proofs = Proofs::default();
        proofs.note(id(1));
        let in_flight = ping(&mut proofs).unwrap();
        let mut farewell = proofs.farewell();
        assert_eq!(farewell.ping(), None);
        assert!(farewell.pong(&2_u64.to_be_bytes()).is_empty(), "never sent");
        assert_eq!(farewell.pong(&in_flight), [id(1)]);
    }

    #[test]
    fn ids_that_pass_the_bound_are_forgotten() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let mut proofs = Proofs::default();
        for n in 0..=LIMIT as u128 {
            proofs.note(id(n));
        }
        let ping = ping(&mut proofs).unwrap();
        assert_eq!(proofs.pong(&ping).len(), LIMIT);
        assert!(recorder.handle().render().contains("gateway_proofs_dropped_total 1"));
    }
}
