//! How many sockets, and how many handshakes: of one participant, of one address, of all. Each gateway counts for itself.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use shared::ids::LocationId;
use shared::limit::{KeyedRateLimiter, Rate, RetryAfter, check, check_address, client_network};
use shared::participant::Participant;
use shared::token::{Actor, Principal};
use tokio::sync::OwnedSemaphorePermit;

use crate::config::Config;

/// Notices of typing that one participant may have passed on, however many sockets it has: a second, and at once. All share
/// the way to Redis.
const TYPING: (u32, u32) = (5, 20);

/// Tokens that one participant or service may show on all its open sockets: a second, and at once. To verify one costs as much as a
/// hundred frames, and a row of the audit trail.
const TOKENS: (u32, u32) = (10, 300);

/// All that bounds who may come.
pub(crate) struct Limits {
    handshakes: Option<KeyedRateLimiter>,
    handshakes_of_participant: Option<KeyedRateLimiter>,
    address: Option<KeyedRateLimiter>,
    failures: Option<KeyedRateLimiter>,
    missing: Option<KeyedRateLimiter>,
    tokens: Option<KeyedRateLimiter>,
    typing: Option<KeyedRateLimiter>,
    sockets_of_participant: Arc<Crowd>,
    sockets_of_address: Arc<Crowd>,
}

/// A socket's place among those that this gateway may hold, and among those of its owner. Given back when it is dropped.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    _of_participant: Option<Seat>,
    _of_address: Option<Seat>,
}

/// Somebody has as many sockets as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

impl Limits {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            handshakes: KeyedRateLimiter::new("handshakes", config.handshakes),
            handshakes_of_participant: KeyedRateLimiter::new("handshakes_of_participant", config.participant_rate),
            address: KeyedRateLimiter::new("address", config.address_rate),
            failures: KeyedRateLimiter::new("failures", config.failure_rate),
            missing: KeyedRateLimiter::new("no_token", config.no_token_rate),
            tokens: KeyedRateLimiter::new("tokens", Rate::new(TOKENS.0, TOKENS.1)),
            typing: KeyedRateLimiter::new("typing", Rate::new(TYPING.0, TYPING.1)),
            sockets_of_participant: Crowd::new(config.max_sockets_per_participant),
            sockets_of_address: Crowd::new(config.max_sockets_per_address),
        }
    }

    /// A handshake, before anybody has looked into it. One that its address may not make takes nothing from the others'.
    pub(crate) fn handshake(&self, address: IpAddr) -> Result<(), RetryAfter> {
        check_address(self.address.as_ref(), address)?;
        check(self.handshakes.as_ref(), &())
    }

    /// A handshake whose token is good. A service token is nobody's.
    pub(crate) fn handshake_of(&self, owner: &Principal) -> Result<(), RetryAfter> {
        owner.participant().map_or(Ok(()), |person| check(self.handshakes_of_participant.as_ref(), person))
    }

    /// A token was refused. Only refused ones take from this bucket, and only they are turned away by it.
    pub(crate) fn failure(&self, address: IpAddr) -> Result<(), RetryAfter> {
        check_address(self.failures.as_ref(), address)
    }

    /// There was no token at all.
    pub(crate) fn no_token(&self, address: IpAddr) -> Result<(), RetryAfter> {
        check_address(self.missing.as_ref(), address)
    }

    /// Somebody shows a token, on any of its sockets.
    pub(crate) fn token(&self, who: &Actor) -> Result<(), RetryAfter> {
        check(self.tokens.as_ref(), &shared::audit::AuditActor::from(who))
    }

    /// Somebody types, on any of its sockets.
    pub(crate) fn typing(&self, location: &LocationId, who: &Participant) -> Result<(), RetryAfter> {
        check(self.typing.as_ref(), &(location, who))
    }

    /// A place for one socket more. A service token's socket is nobody's: it counts for its address only.
    pub(crate) fn seat(
        &self,
        permit: OwnedSemaphorePermit,
        owner: &Principal,
        address: IpAddr,
    ) -> Result<Box<Place>, Full> {
        let of_participant = match owner.participant() {
            Some(person) => self.sockets_of_participant.enter(person, "sockets_of_participant")?,
            None => None,
        };
        let of_address = match client_network(address) {
            Some(network) => self.sockets_of_address.enter(&network, "sockets_of_address")?,
            None => None,
        };
        Ok(Box::new(Place { _permit: permit, _of_participant: of_participant, _of_address: of_address }))
    }
}

/// How many sockets each has. Names are kept as hashes, whose key is this process's own.
struct Crowd {
    most: u32,
    counts: Mutex<HashMap<u64, u32>>,
    hasher: RandomState,
}

/// One of somebody's.
struct Seat {
    crowd: Arc<Crowd>,
    who: u64,
}

impl Crowd {
    /// At most `most` each; 0 for no limit.
    fn new(most: u32) -> Arc<Self> {
        Arc::new(Self { most, counts: Mutex::default(), hasher: RandomState::new() })
    }

    fn enter(self: &Arc<Self>, who: &impl Hash, kind: &'static str) -> Result<Option<Seat>, Full> {
        if self.most == 0 {
            return Ok(None);
        }
        let who = self.hasher.hash_one(who);
        let mut counts = self.counts.lock();
        let count = counts.entry(who).or_default();
        if *count >= self.most {
            metrics::counter!("rate_limited_total", "kind" => kind).increment(1);
            return Err(Full);
        }
        *count += 1;
        Ok(Some(Seat { crowd: self.clone(), who }))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.crowd.counts.lock().entry(self.who) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_so_many_and_gives_them_back() {
        let crowd = Crowd::new(2);
        let first = crowd.enter(&"a", "test").unwrap();
        let second = crowd.enter(&"a", "test").unwrap();
        assert!(crowd.enter(&"a", "test").is_err());
        assert!(crowd.enter(&"b", "test").unwrap().is_some());
        drop(first);
        let third = crowd.enter(&"a", "test").unwrap();
        assert!(third.is_some() && crowd.enter(&"a", "test").is_err());
        drop((second, third));
        assert!(crowd.counts.lock().is_empty(), "nothing is kept of who has none");
    }

    #[test]
    fn without_a_limit_nobody_is_counted() {
        let crowd = Crowd::new(0);
        assert!((0..1000).all(|_| crowd.enter(&"a", "test").unwrap().is_none()));
        assert!(crowd.counts.lock().is_empty());
    }
}
