//! Which messages a socket's client has proven to have, by answering a Ping that was sent behind them.
//!
//! One Ping is in flight at most. Ids that would pass the bound are forgotten (`gateway_proofs_dropped_total`): those
//! messages stay undelivered in the books until the client reports them itself.

use bytes::Bytes;
use shared::ids::MessageId;

/// Ids that may wait for a Ping. A client that leaves its Ping unanswered is closed long before it has been sent so many.
const LIMIT: usize = 8 * 1024;

#[derive(Debug, Default)]
pub(super) struct Proofs {
    counter: u64,
    in_flight: Option<Vec<MessageId>>,
    /// Sent, with no Ping behind them yet.
    waiting: Vec<MessageId>,
}

impl Proofs {
    /// A message for the socket's owner is about to be written.
    pub(super) fn note(&mut self, id: MessageId) {
        if self.waiting.len() < LIMIT {
            self.waiting.push(id);
        } else {
            metrics::counter!("gateway_proofs_dropped_total").increment(1);
        }
    }

    /// The Ping to send behind what was noted, if there is something to prove and none is in flight.
    pub(super) fn ping(&mut self) -> Option<Bytes> {
        if self.waiting.is_empty() { None } else { self.heartbeat() }
    }

    /// A Ping, whether or not there is something to prove, unless one is in flight.
    pub(super) fn heartbeat(&mut self) -> Option<Bytes> {
        if self.in_flight.is_some() {
            return None;
        }
        self.in_flight = Some(std::mem::take(&mut self.waiting));
        self.counter += 1;
        Some(Bytes::copy_from_slice(&self.counter.to_be_bytes()))
    }

    /// The last Ping, behind everything, whatever is in flight: its Pong proves all of it.
    pub(super) fn farewell(&mut self) -> Option<Bytes> {
        let mut unproven = self.in_flight.take().unwrap_or_default();
        unproven.append(&mut self.waiting);
        self.waiting = unproven;
        self.ping()
    }

    /// What a Pong proves. Nothing, unless it echoes the Ping in flight.
    pub(super) fn pong(&mut self, payload: &[u8]) -> Vec<MessageId> {
        if payload == self.counter.to_be_bytes() { self.in_flight.take().unwrap_or_default() } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn id(n: u128) -> MessageId {
        Uuid::from_u128(n)
    }

    #[test]
    fn a_pong_proves_what_was_sent_before_its_ping_and_no_more() {
        let mut proofs = Proofs::default();
        proofs.note(id(1));
        let first = proofs.ping().unwrap();
        proofs.note(id(2));
        assert_eq!(proofs.ping(), None, "one ping in flight at most");
        assert_eq!(proofs.pong(&first), [id(1)]);
        let second = proofs.ping().unwrap();
        assert_ne!(first, second);
        assert_eq!(proofs.pong(&second), [id(2)]);
        assert_eq!(proofs.ping(), None, "nothing is left to prove");
    }

    #[test]
    fn other_pongs_prove_nothing() {
        let mut proofs = Proofs::default();
        proofs.note(id(1));
        assert!(proofs.pong(&0_u64.to_be_bytes()).is_empty(), "before any ping");
        let ping = proofs.ping().unwrap();
        for payload in [&b""[..], b"hello", &[ping.as_ref(), b"x"].concat()] {
            assert!(proofs.pong(payload).is_empty());
        }
        assert_eq!(proofs.pong(&ping), [id(1)]);
        assert!(proofs.pong(&ping).is_empty(), "the same pong again");
    }

    #[test]
    fn heartbeats_prove_too() {
        let mut proofs = Proofs::default();
        let ping = proofs.heartbeat().unwrap();
        proofs.note(id(1));
        assert!(proofs.pong(&ping).is_empty());
        let ping = proofs.heartbeat().unwrap();
        assert_eq!(proofs.pong(&ping), [id(1)]);
    }

    #[test]
    fn a_farewell_proves_all_that_is_left() {
        let mut proofs = Proofs::default();
        assert_eq!(proofs.farewell(), None, "nothing to prove");
        proofs.note(id(1));
        let in_flight = proofs.ping().unwrap();
        proofs.note(id(2));
        let last = proofs.farewell().unwrap();
        assert!(proofs.pong(&in_flight).is_empty(), "the last one will prove it");
        assert_eq!(proofs.pong(&last), [id(1), id(2)]);
    }

    #[test]
    fn ids_that_pass_the_bound_are_forgotten() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let mut proofs = Proofs::default();
        for n in 0..=LIMIT as u128 {
            proofs.note(id(n));
        }
        let ping = proofs.ping().unwrap();
        assert_eq!(proofs.pong(&ping).len(), LIMIT);
        assert!(recorder.handle().render().contains("gateway_proofs_dropped_total 1"));
    }
}
