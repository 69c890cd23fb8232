//! Limits of handshakes, tokens, typing and sockets: per participant, per address and in total. Each gateway counts
//! for itself.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use shared::contract::ids::LocationId;
use shared::contract::participant::Participant;
use shared::contract::token::{Actor, Principal};
use shared::kit::token_bucket::{KeyedRateLimiter, Rate, RetryAfter, check, check_address, client_network};
use tokio::sync::OwnedSemaphorePermit;

use crate::config::RateLimitConfig;

/// Typing notices of one participant on all its sockets: per second, and burst. All participants share the connection
/// to Redis.
const TYPING_RATE: (u32, u32) = (5, 20);

/// Tokens that one actor may send on its open sockets: per second, and burst. Verifying one costs as much as a
/// hundred frames, plus an audit row.
const TOKEN_RATE: (u32, u32) = (10, 300);

/// All limits of a gateway.
pub(crate) struct RateLimits {
    handshakes: Option<KeyedRateLimiter>,
    handshakes_of_participant: Option<KeyedRateLimiter>,
    address: Option<KeyedRateLimiter>,
    failures: Option<KeyedRateLimiter>,
    missing: Option<KeyedRateLimiter>,
    tokens: Option<KeyedRateLimiter>,
    typing: Option<KeyedRateLimiter>,
    sockets_of_participant: Arc<ConcurrencyLimiter>,
    sockets_of_address: Arc<ConcurrencyLimiter>,
}

/// Permission to hold one socket. Dropping it releases all counts.
pub(crate) struct SocketPermit {
    _permit: OwnedSemaphorePermit,
    _of_participant: Option<CountGuard>,
    _of_address: Option<CountGuard>,
}

/// A concurrency limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitReachedError;

impl RateLimits {
    pub(crate) fn new(config: &RateLimitConfig) -> Self {
        Self {
            handshakes: KeyedRateLimiter::new("handshakes", config.handshakes),
            handshakes_of_participant: KeyedRateLimiter::new("handshakes_of_participant", config.participant),
            address: KeyedRateLimiter::new("address", config.address),
            failures: KeyedRateLimiter::new("failures", config.invalid_token),
            missing: KeyedRateLimiter::new("no_token", config.missing_token),
            tokens: KeyedRateLimiter::new("tokens", Rate::new(TOKEN_RATE.0, TOKEN_RATE.1)),
            typing: KeyedRateLimiter::new("typing", Rate::new(TYPING_RATE.0, TYPING_RATE.1)),
            sockets_of_participant: ConcurrencyLimiter::new(config.max_sockets_per_participant),
            sockets_of_address: ConcurrencyLimiter::new(config.max_sockets_per_address),
        }
    }

    /// Before a handshake is parsed. The address comes first, so that its excess does not use up the shared limit.
    pub(crate) fn check_handshake(&self, address: IpAddr) -> Result<(), RetryAfter> {
        check_address(self.address.as_ref(), address)?;
        check(self.handshakes.as_ref(), &())
    }

    /// After authentication. A service token has no limit of its own.
    pub(crate) fn check_participant(&self, owner: &Principal) -> Result<(), RetryAfter> {
        owner.participant().map_or(Ok(()), |person| check(self.handshakes_of_participant.as_ref(), person))
    }

    /// An invalid token. Only invalid tokens count, so valid clients of the address are not affected.
    pub(crate) fn record_invalid_token(&self, address: IpAddr) -> Result<(), RetryAfter> {
        check_address(self.failures.as_ref(), address)
    }

    /// A handshake without a token.
    pub(crate) fn record_missing_token(&self, address: IpAddr) -> Result<(), RetryAfter> {
        check_address(self.missing.as_ref(), address)
    }

    /// A token sent on an open socket.
    pub(crate) fn check_token(&self, key: &Actor) -> Result<(), RetryAfter> {
        check(self.tokens.as_ref(), &shared::contract::audit::AuditActor::from(key))
    }

    /// A typing notice.
    pub(crate) fn check_typing(&self, location: &LocationId, key: &Participant) -> Result<(), RetryAfter> {
        check(self.typing.as_ref(), &(location, key))
    }

    /// Permission for one more socket. A service token counts for its address only.
    pub(crate) fn acquire_socket(
        &self,
        permit: OwnedSemaphorePermit,
        owner: &Principal,
        address: IpAddr,
    ) -> Result<Box<SocketPermit>, LimitReachedError> {
        let of_participant = match owner.participant() {
            Some(person) => self.sockets_of_participant.try_acquire(person, "sockets_of_participant")?,
            None => None,
        };
        let of_address = match client_network(address) {
            Some(network) => self.sockets_of_address.try_acquire(&network, "sockets_of_address")?,
            None => None,
        };
        Ok(Box::new(SocketPermit { _permit: permit, _of_participant: of_participant, _of_address: of_address }))
    }
}

/// Open sockets per key. Keys are kept as hashes with a random seed.
struct ConcurrencyLimiter {
    limit: u32,
    counts: Mutex<HashMap<u64, u32>>,
    hasher: RandomState,
}

/// One counted socket.
struct CountGuard {
    limiter: Arc<ConcurrencyLimiter>,
    key: u64,
}

impl ConcurrencyLimiter {
    /// At most `limit` per key; 0 for no limit.
    fn new(limit: u32) -> Arc<Self> {
        Arc::new(Self { limit, counts: Mutex::default(), hasher: RandomState::new() })
    }

    fn try_acquire(
        self: &Arc<Self>,
        key: &impl Hash,
        kind: &'static str,
    ) -> Result<Option<CountGuard>, LimitReachedError> {
        if self.limit == 0 {
            return Ok(None);
        }
        let key = self.hasher.hash_one(key);
        let mut counts = self.counts.lock();
        let count = counts.entry(key).or_default();
        if *count >= self.limit {
            metrics::counter!("ehr_chat_rate_limited_total", "kind" => kind).increment(1);
            return Err(LimitReachedError);
        }
        *count += 1;
        Ok(Some(CountGuard { limiter: self.clone(), key }))
    }
}

impl Drop for CountGuard {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.limiter.counts.lock().entry(self.key) {
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
    fn limiter_counts_per_key_and_releases_on_drop() {
        let limiter = ConcurrencyLimiter::new(2);
        let first = limiter.try_acquire(&"a", "test").unwrap();
        let second = limiter.try_acquire(&"a", "test").unwrap();
        assert!(limiter.try_acquire(&"a", "test").is_err());
        assert!(limiter.try_acquire(&"b", "test").unwrap().is_some());
        drop(first);
        let third = limiter.try_acquire(&"a", "test").unwrap();
        assert!(third.is_some() && limiter.try_acquire(&"a", "test").is_err());
        drop((second, third));
        assert!(limiter.counts.lock().is_empty(), "released keys are removed");
    }

    #[test]
    fn limiter_counts_nothing_without_limit() {
        let limiter = ConcurrencyLimiter::new(0);
        assert!((0..1000).all(|_| limiter.try_acquire(&"a", "test").unwrap().is_none()));
        assert!(limiter.counts.lock().is_empty());
    }
}
