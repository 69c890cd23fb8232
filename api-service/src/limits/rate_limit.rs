//! Rate limits per participant, service and address. Each instance counts for itself.

use std::net::IpAddr;

use shared::contract::participant::ParticipantKind;
use shared::contract::token::{Actor, Principal};
use shared::kit::env::{Env, Setting};
use shared::kit::token_bucket::{self, KeyedRateLimiter, Rate, RateSettings, RetryAfter, check, check_address};

/// Requests of one participant, in all its locations together.
pub(crate) const PARTICIPANT: RateSettings = RateSettings {
    per_second: Setting {
        name: "RATE_LIMIT_PARTICIPANT_PER_SECOND",
        default: Some("500"),
        help: "0 to 1000000: requests a second of one user or contact; more get 429; 0 for no limit",
    },
    burst: Setting {
        name: "RATE_LIMIT_PARTICIPANT_BURST",
        default: Some("5000"),
        help: "1 to 10000000: requests of one user or contact at once",
    },
};

/// Sends of one contact: a patient types, and must not flood a conversation.
pub(crate) const CONTACT_SENDS: RateSettings = RateSettings {
    per_second: Setting {
        name: "RATE_LIMIT_CONTACT_SENDS_PER_SECOND",
        default: Some("5"),
        help: "0 to 1000000: messages a second of one contact; more are answered with 429; 0 for no limit",
    },
    burst: Setting {
        name: "RATE_LIMIT_CONTACT_SENDS_BURST",
        default: Some("50"),
        help: "1 to 10000000: messages of one contact at once",
    },
};

/// Requests of one trusted backend, which acts for many participants.
pub(crate) const SERVICE: RateSettings = RateSettings {
    per_second: Setting {
        name: "RATE_LIMIT_SERVICE_PER_SECOND",
        default: Some("10000"),
        help: "0 to 1000000: requests a second of one service token's subject; 0 for no limit",
    },
    burst: Setting {
        name: "RATE_LIMIT_SERVICE_BURST",
        default: Some("50000"),
        help: "1 to 10000000: requests of one service at once",
    },
};

/// A presence request takes one more token per this many participants.
const PARTICIPANTS_PER_TOKEN: usize = 10;

/// The rate of each kind of caller; `None` means no limit.
#[derive(Debug, Clone, Copy)]
pub struct RateLimitConfig {
    /// Of a user or contact.
    pub participant: Option<Rate>,
    /// Of sends of a contact, in addition to its requests.
    pub contact_sends: Option<Rate>,
    /// Of a trusted backend.
    pub service: Option<Rate>,
    /// Of an address.
    pub address: Option<Rate>,
    /// Of rejected tokens of an address.
    pub failures: Option<Rate>,
    /// Of requests without a token of an address.
    pub missing: Option<Rate>,
}

impl RateLimitConfig {
    /// Reads all rates; `env` collects errors.
    pub(crate) fn read(env: &mut Env) -> Option<Self> {
        let (participant, service) = (PARTICIPANT.read(env), SERVICE.read(env));
        let contact_sends = CONTACT_SENDS.read(env);
        let (address, failures) = (token_bucket::ADDRESS_RATE.read(env), token_bucket::FAILED_TOKEN_RATE.read(env));
        let missing = token_bucket::MISSING_TOKEN_RATE.read(env);
        Some(Self {
            participant: participant?,
            contact_sends: contact_sends?,
            service: service?,
            address: address?,
            failures: failures?,
            missing: missing?,
        })
    }
}

/// Token buckets, one per caller.
pub struct RateLimits {
    participant: Option<KeyedRateLimiter>,
    contact_sends: Option<KeyedRateLimiter>,
    service: Option<KeyedRateLimiter>,
    address: Option<KeyedRateLimiter>,
    failures: Option<KeyedRateLimiter>,
    missing: Option<KeyedRateLimiter>,
}

impl RateLimits {
    /// All buckets start full.
    #[must_use]
    pub fn new(config: &RateLimitConfig) -> Self {
        Self {
            participant: KeyedRateLimiter::new("participant", config.participant),
            contact_sends: KeyedRateLimiter::new("contact_sends", config.contact_sends),
            service: KeyedRateLimiter::new("service", config.service),
            address: KeyedRateLimiter::new("address", config.address),
            failures: KeyedRateLimiter::new("failures", config.failures),
            missing: KeyedRateLimiter::new("no_token", config.missing),
        }
    }

    /// Charges a request to its address, before anything else is done with it.
    ///
    /// # Errors
    /// When the address exceeds its rate.
    pub fn check_address(&self, address: IpAddr) -> Result<(), RetryAfter> {
        check_address(self.address.as_ref(), address)
    }

    /// Charges a request to its authenticated caller. Locations share one bucket.
    ///
    /// # Errors
    /// When the caller exceeds its rate.
    pub fn check_caller(&self, caller: &Principal) -> Result<(), RetryAfter> {
        match &caller.actor {
            Actor::Participant(person) => check(self.participant.as_ref(), person),
            Actor::Service { name, .. } => check(self.service.as_ref(), name),
        }
    }

    /// Charges a send. Only contacts have a limit for sends.
    ///
    /// # Errors
    /// When the contact exceeds its rate.
    pub fn check_send(&self, caller: &Principal) -> Result<(), RetryAfter> {
        match &caller.actor {
            Actor::Participant(person) if person.kind == ParticipantKind::Contact => {
                check(self.contact_sends.as_ref(), person)
            }
            Actor::Participant(_) | Actor::Service { .. } => Ok(()),
        }
    }

    /// Charges a request again for the number of participants that it names.
    ///
    /// # Errors
    /// When the caller exceeds its rate.
    pub fn charge_participants(&self, caller: &Principal, count: usize) -> Result<(), RetryAfter> {
        let more = u32::try_from(count / PARTICIPANTS_PER_TOKEN).unwrap_or(u32::MAX);
        match &caller.actor {
            Actor::Participant(person) => {
                self.participant.as_ref().map_or(Ok(()), |buckets| buckets.check_n(person, more))
            }
            Actor::Service { name, .. } => self.service.as_ref().map_or(Ok(()), |buckets| buckets.check_n(name, more)),
        }
    }

    /// Charges a rejected token to its address. Valid tokens of the same address are not affected.
    ///
    /// # Errors
    /// When the address exceeds its rate.
    pub fn record_failure(&self, address: IpAddr) -> Result<(), RetryAfter> {
        check_address(self.failures.as_ref(), address)
    }

    /// Charges a request without a token to its address. This bucket is separate, so expired tokens and missing tokens do not
    /// block each other.
    ///
    /// # Errors
    /// When the address exceeds its rate.
    pub fn record_missing_token(&self, address: IpAddr) -> Result<(), RetryAfter> {
        check_address(self.missing.as_ref(), address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::contract::ids::LocationId;
    use shared::contract::token::VerificationKeyId;
    use time::OffsetDateTime;

    fn principal(actor: Actor, location: &str) -> Principal {
        let location: LocationId = location.parse().unwrap();
        let (subject, key) = ("x".parse().unwrap(), VerificationKeyId::SECRET);
        let expires_at = OffsetDateTime::now_utc();
        Principal { actor, locations: vec![location], expires_at, subject, issued_at: None, jti: None, key }
    }

    fn limits() -> RateLimits {
        let rate = |burst| Rate::new(1, burst);
        RateLimits::new(&RateLimitConfig {
            participant: rate(2),
            contact_sends: rate(1),
            service: rate(4),
            address: rate(3),
            failures: rate(1),
            missing: rate(2),
        })
    }

    #[test]
    fn participant_shares_bucket_across_locations() {
        let limits = limits();
        let (user, contact) =
            (Actor::Participant("user:a".parse().unwrap()), Actor::Participant("contact:a".parse().unwrap()));
        assert!(limits.check_caller(&principal(user.clone(), "loc1")).is_ok());
        assert!(limits.check_caller(&principal(user.clone(), "loc2")).is_ok());
        assert!(limits.check_caller(&principal(user, "loc3")).is_err());
        assert!(limits.check_caller(&principal(contact, "loc1")).is_ok());
    }

    #[test]
    fn only_contacts_have_send_limit() {
        let limits = limits();
        let contact = principal(Actor::Participant("contact:a".parse().unwrap()), "loc1");
        assert!(limits.check_send(&contact).is_ok());
        assert!(limits.check_send(&contact).is_err());
        assert!((0..2).all(|_| limits.check_caller(&contact).is_ok()), "other requests keep their limit");
        let other = principal(Actor::Participant("contact:b".parse().unwrap()), "loc1");
        assert!(limits.check_send(&other).is_ok());
        let user = principal(Actor::Participant("user:a".parse().unwrap()), "loc1");
        assert!((0..100).all(|_| limits.check_send(&user).is_ok()));
        let service = principal(Actor::Service { name: "a".parse().unwrap(), admin: false }, "loc1");
        assert!((0..100).all(|_| limits.check_send(&service).is_ok()));
    }

    #[test]
    fn service_has_own_bucket_size() {
        let limits = limits();
        let service = || principal(Actor::Service { name: "a".parse().unwrap(), admin: false }, "loc1");
        assert!((0..4).all(|_| limits.check_caller(&service()).is_ok()));
        assert!(limits.check_caller(&service()).is_err());
    }

    #[test]
    fn presence_request_is_charged_per_participants() {
        let limits = limits();
        let service = || principal(Actor::Service { name: "a".parse().unwrap(), admin: false }, "loc1");
        assert!(limits.charge_participants(&service(), 9).is_ok());
        assert!(limits.charge_participants(&service(), 35).is_ok());
        assert!(limits.check_caller(&service()).is_ok() && limits.charge_participants(&service(), 10).is_err());
    }

    #[test]
    fn rejected_tokens_do_not_consume_request_limit() {
        let limits = limits();
        let address: IpAddr = [203, 0, 113, 9].into();
        assert!(limits.record_failure(address).is_ok());
        assert!(limits.record_failure(address).is_err());
        assert!(
            (0..2).all(|_| limits.record_missing_token(address).is_ok())
                && limits.record_missing_token(address).is_err()
        );
        assert!((0..3).all(|_| limits.check_address(address).is_ok()));
        assert!(limits.check_address(address).is_err());
        assert!(limits.check_address([203, 0, 113, 10].into()).is_ok());
    }
}
