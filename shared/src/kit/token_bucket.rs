//! Rate limits: a token bucket per caller, and the settings for them.
//!
//! Memory is bounded: a bucket takes about 16 bytes and no name is kept. Full buckets are removed. At [`MAX_KEYS`] buckets all
//! are removed, which gives every caller a full one.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use parking_lot::RwLock;

use crate::kit::env::{Env, Setting};

/// Callers with a bucket of their own.
pub const MAX_KEYS: usize = 200_000;
/// Checks between two looks at how many buckets there are.
const PRUNE_INTERVAL_CHECKS: usize = 1024;
/// A rate is at most this, and a bucket at most ten times as large.
const MAX_PER_SECOND: u32 = 1_000_000;

/// Tokens that come into a bucket each second, and how many it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    per_second: NonZeroU32,
    burst: NonZeroU32,
}

impl Rate {
    /// `None` for a rate of 0: no limit.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Option<Self> {
        let per_second = NonZeroU32::new(per_second)?;
        Some(Self { per_second, burst: NonZeroU32::new(burst).unwrap_or(per_second) })
    }
}

/// The two settings of a rate.
#[derive(Debug, Clone, Copy)]
pub struct RateSettings {
    /// Its name ends in `_PER_SECOND`.
    pub per_second: Setting,
    /// Its name ends in `_BURST`.
    pub burst: Setting,
}

/// Requests of one address.
pub const ADDRESS_RATE: RateSettings = RateSettings {
    per_second: Setting {
        name: "RATE_LIMIT_ADDRESS_PER_SECOND",
        default: Some("0"),
        help: "0 to 1000000: requests (handshakes, in the gateway) a second of one address, 0 for no limit; behind \
               proxies set TRUSTED_PROXIES first",
    },
    burst: Setting {
        name: "RATE_LIMIT_ADDRESS_BURST",
        default: Some("1000"),
        help: "1 to 10000000: requests of one address at once",
    },
};

/// Tokens that were refused, by the address that showed them.
pub const FAILED_TOKEN_RATE: RateSettings = RateSettings {
    per_second: Setting {
        name: "RATE_LIMIT_FAILURES_PER_SECOND",
        default: Some("50"),
        help: "0 to 1000000: refused tokens (401) a second of one address; more get 429; 0 for no limit",
    },
    burst: Setting {
        name: "RATE_LIMIT_FAILURES_BURST",
        default: Some("1000"),
        help: "1 to 10000000: refused tokens of one address at once",
    },
};

/// Requests that come without any token, by their address.
pub const MISSING_TOKEN_RATE: RateSettings = RateSettings {
    per_second: Setting {
        name: "RATE_LIMIT_NO_TOKEN_PER_SECOND",
        default: Some("50"),
        help: "0 to 1000000: requests without a token a second of one address; more get 429; 0 for no limit",
    },
    burst: Setting {
        name: "RATE_LIMIT_NO_TOKEN_BURST",
        default: Some("1000"),
        help: "1 to 10000000: requests without a token of one address at once",
    },
};

impl RateSettings {
    /// Reads both. `Some(None)` is no limit, `None` a mistake that `env` has noted.
    #[allow(clippy::option_option, reason = "the outer one is how all settings are read")]
    pub fn read(&self, env: &mut Env) -> Option<Option<Rate>> {
        let per_second = env.read_number(&self.per_second, 0..=MAX_PER_SECOND);
        let burst = env.read_number(&self.burst, 1..=10 * MAX_PER_SECOND);
        Some(Rate::new(per_second?, burst?))
    }
}

/// When to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryAfter(Duration);

impl RetryAfter {
    /// The value of `Retry-After`: whole seconds, after which there is a token, and one at least.
    #[must_use]
    pub fn seconds(self) -> u64 {
        let whole = self.0.as_secs() + u64::from(self.0.subsec_nanos() > 0);
        whole.max(1)
    }
}

/// A bucket per caller. The key is a hash with a random key of this process, so a caller cannot choose a name that shares a
/// bucket with another.
pub struct KeyedRateLimiter {
    kind: &'static str,
    quota: Quota,
    buckets: RwLock<DefaultKeyedRateLimiter<u64>>,
    clock: DefaultClock,
    hasher: RandomState,
    checks: AtomicUsize,
    /// Full buckets are let go when there are so many.
    prune_at: AtomicUsize,
}

impl KeyedRateLimiter {
    /// A limiter without callers. Denials are counted as `ehr_chat_rate_limited_total{kind}`. `None` without a limit.
    #[must_use]
    pub fn new(kind: &'static str, rate: Option<Rate>) -> Option<Self> {
        let Rate { per_second, burst } = rate?;
        let quota = Quota::per_second(per_second).allow_burst(burst);
        Some(Self {
            kind,
            quota,
            buckets: RwLock::new(RateLimiter::keyed(quota)),
            clock: DefaultClock::default(),
            hasher: RandomState::new(),
            checks: AtomicUsize::new(0),
            prune_at: AtomicUsize::new(PRUNE_INTERVAL_CHECKS),
        })
    }

    /// Takes a token out of a caller's bucket.
    ///
    /// # Errors
    /// When it is empty: how long until there is one.
    pub fn check(&self, caller: &impl Hash) -> Result<(), RetryAfter> {
        if self.checks.fetch_add(1, Ordering::Relaxed) % PRUNE_INTERVAL_CHECKS == PRUNE_INTERVAL_CHECKS - 1 {
            self.prune();
        }
        let key = self.hasher.hash_one(caller);
        let taken = self.buckets.read().check_key(&key);
        taken.map_err(|not_until| {
            metrics::counter!("ehr_chat_rate_limited_total", "kind" => self.kind).increment(1);
            RetryAfter(not_until.wait_time_from(self.clock.now()))
        })
    }

    /// Takes several more for a request that has taken one already and turns out to be as much work as so many: all of them, or none. Never
    /// more than a full bucket would have left, or it could never be granted.
    ///
    /// # Errors
    /// When there are not so many: how long until there are.
    pub fn check_n(&self, caller: &impl Hash, more: u32) -> Result<(), RetryAfter> {
        let more = more.min(self.quota.burst_size().get() - 1);
        let Some(more) = NonZeroU32::new(more) else { return Ok(()) };
        let key = self.hasher.hash_one(caller);
        // It is no more than the bucket holds.
        let taken = self.buckets.read().check_key_n(&key, more).unwrap_or(Ok(()));
        taken.map_err(|not_until| {
            metrics::counter!("ehr_chat_rate_limited_total", "kind" => self.kind).increment(1);
            RetryAfter(not_until.wait_time_from(self.clock.now()))
        })
    }

    /// Lets go of buckets that are full anyhow, and of all of them when that does not help.
    fn prune(&self) {
        let buckets = self.buckets.read();
        let before = buckets.len();
        if before < self.prune_at.load(Ordering::Relaxed) {
            return;
        }
        buckets.retain_recent();
        buckets.shrink_to_fit();
        let left = buckets.len();
        drop(buckets);
        self.prune_at.store((2 * left).clamp(PRUNE_INTERVAL_CHECKS, MAX_KEYS), Ordering::Relaxed);
        if left >= MAX_KEYS {
            metrics::counter!("ehr_chat_rate_limiter_resets_total", "kind" => self.kind).increment(1);
            *self.buckets.write() = RateLimiter::keyed(self.quota);
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.buckets.read().len()
    }
}

/// Bits of an IPv6 address that one household or hospital is given (RFC 6177); it has the rest to itself, and could ask from
/// another address, or another of its 256 networks of 64 bits, each time.
const NETWORK_BITS: u32 = 56;
/// Behind this network stands an IPv4 address that was translated (NAT64, RFC 6052).
const NAT64: u128 = 0x0064_ff9b_u128 << 96;

/// What one household or hospital has: an IPv4 address, or the 56-bit network of an IPv6 one. `None` for an address that is not
/// known ([`std::net::Ipv4Addr::UNSPECIFIED.into()`]): those who have none in common must not share a limit.
#[must_use]
pub fn client_network(address: IpAddr) -> Option<IpAddr> {
    let network = match address.to_canonical() {
        IpAddr::V6(address) if u128::from(address) >> 32 == NAT64 >> 32 => {
            #[expect(clippy::cast_possible_truncation, reason = "the last 32 bits are meant")]
            let translated = u128::from(address) as u32;
            IpAddr::V4(translated.into())
        }
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & (u128::MAX << (128 - NETWORK_BITS))).into()),
        v4 => v4,
    };
    (!address.is_unspecified()).then_some(network)
}

/// [`check`] for the [`client_network`] of an address.
///
/// # Errors
/// As there.
pub fn check_address(buckets: Option<&KeyedRateLimiter>, address: IpAddr) -> Result<(), RetryAfter> {
    client_network(address).map_or(Ok(()), |network| check(buckets, &network))
}

/// [`KeyedRateLimiter::check`] where there may be no limit.
///
/// # Errors
/// As there.
pub fn check(buckets: Option<&KeyedRateLimiter>, caller: &impl Hash) -> Result<(), RetryAfter> {
    buckets.map_or(Ok(()), |buckets| buckets.check(caller))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(per_second: u32, burst: u32) -> KeyedRateLimiter {
        KeyedRateLimiter::new("test", Rate::new(per_second, burst)).unwrap()
    }

    #[test]
    fn burst_passes_and_excess_gets_retry_after() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let buckets = buckets(1, 5);
        for _ in 0..5 {
            assert_eq!(buckets.check(&"doc123"), Ok(()));
        }
        let wait = buckets.check(&"doc123").unwrap_err();
        assert!(wait.0 > Duration::from_millis(500) && wait.0 <= Duration::from_secs(1), "{wait:?}");
        assert_eq!(wait.seconds(), 1);
        assert_eq!(buckets.check(&"doc124"), Ok(()), "each caller has its own bucket");
        assert!(recorder.handle().render().contains(r#"ehr_chat_rate_limited_total{kind="test"} 1"#));
    }

    #[test]
    fn cost_beyond_burst_takes_a_full_bucket() {
        let buckets = buckets(1, 5);
        assert_eq!(buckets.check(&"doc123"), Ok(()));
        assert_eq!(buckets.check_n(&"doc123", 10), Ok(()));
        assert!(buckets.check(&"doc123").is_err(), "all of it is gone");
        assert_eq!(buckets.check(&"doc124"), Ok(()));
        assert_eq!(buckets.check(&"doc124"), Ok(()));
        assert!(buckets.check_n(&"doc124", 4).is_err(), "three are left");
        assert_eq!(buckets.check_n(&"doc124", 3), Ok(()), "and none of them was taken");
        let single = self::buckets(1, 1);
        assert_eq!((single.check(&"a"), single.check_n(&"a", 10)), (Ok(()), Ok(())));
    }

    #[test]
    fn retry_after_rounds_up() {
        for (millis, seconds) in [(1, 1), (999, 1), (1_000, 1), (1_001, 2), (59_500, 60)] {
            assert_eq!(RetryAfter(Duration::from_millis(millis)).seconds(), seconds);
        }
    }

    #[test]
    fn zero_rate_means_no_limit() {
        assert!(KeyedRateLimiter::new("test", Rate::new(0, 9)).is_none());
        for _ in 0..10_000 {
            assert_eq!(check(None, &"doc123"), Ok(()));
        }
    }

    #[test]
    fn full_buckets_are_removed() {
        // A token comes every microsecond, so a bucket is full as good as at once.
        let buckets = buckets(1_000_000, 1);
        for caller in 0..50_000 {
            let _ = buckets.check(&caller);
        }
        assert!(buckets.len() < 3 * PRUNE_INTERVAL_CHECKS, "{}", buckets.len());
    }

    #[test]
    fn bucket_count_is_bounded() {
        // A bucket stays for a quarter of an hour.
        let buckets = buckets(1, 1000);
        let mut most = 0;
        for caller in 0..2 * MAX_KEYS + 10 {
            buckets.check(&caller).unwrap();
            if caller % PRUNE_INTERVAL_CHECKS == 0 {
                most = most.max(buckets.len());
            }
        }
        assert!(most > MAX_KEYS / 2 && most <= MAX_KEYS + PRUNE_INTERVAL_CHECKS, "{most}");
    }

    #[test]
    fn ipv6_network_shares_one_bucket() {
        let of = |text: &str| client_network(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2::9"));
        assert_eq!(of("2001:db8:1:200::9"), of("2001:db8:1:2ff::9"), "one is given 56 bits");
        assert_ne!(of("2001:db8:1:200::9"), of("2001:db8:1:300::9"));
        assert_ne!(of("203.0.113.9"), of("203.0.113.10"));
        assert_eq!(of("::ffff:203.0.113.9"), of("203.0.113.9"));
    }

    #[test]
    fn translated_ipv4_addresses_have_own_buckets() {
        let of = |text: &str| client_network(text.parse().unwrap());
        assert_eq!(of("64:ff9b::203.0.113.9"), of("203.0.113.9"));
        assert_ne!(of("64:ff9b::203.0.113.9"), of("64:ff9b::203.0.113.10"));
        assert_ne!(of("64:ff9b::1:203.0.113.9"), of("203.0.113.9"));
    }

    #[test]
    fn unknown_addresses_share_no_bucket() {
        let buckets = buckets(1, 1);
        for _ in 0..3 {
            assert_eq!(check_address(Some(&buckets), std::net::Ipv4Addr::UNSPECIFIED.into()), Ok(()));
        }
        let known = [203, 0, 113, 9].into();
        assert_eq!(check_address(Some(&buckets), known), Ok(()));
        assert!(check_address(Some(&buckets), known).is_err());
    }

    #[test]
    fn rates_are_checked_against_bounds() {
        let read = |per_second: &'static str, burst: &'static str| {
            let mut env = Env::from_fn(move |name| {
                let value = if name.ends_with("BURST") { burst } else { per_second };
                Some(value.to_owned())
            });
            (FAILED_TOKEN_RATE.read(&mut env), env.into_error().0.len())
        };
        assert_eq!(read("", ""), (Some(Rate::new(50, 1000)), 0));
        assert_eq!(read("0", "5"), (Some(None), 0));
        assert_eq!(read("1000001", "0"), (None, 2));
        assert_eq!(read("-1", "x"), (None, 2));
    }
}
