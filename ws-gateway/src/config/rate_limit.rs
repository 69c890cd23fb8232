//! Limits per participant and per address.

use shared::kit::env::{Env, Setting};
use shared::kit::token_bucket::{self, Rate, RateSettings};

const MAX_SOCKETS_PER_PARTICIPANT: Setting = Setting::new(
    "MAX_SOCKETS_PER_PARTICIPANT",
    Some("100"),
    "0 to 1000000: sockets of one user or contact in this gateway; one more is closed at once (4429); 0 for no limit",
);
const MAX_SOCKETS_PER_ADDRESS: Setting = Setting::new(
    "MAX_SOCKETS_PER_ADDRESS",
    Some("0"),
    "0 to 1000000: sockets of one address in this gateway; one more is closed at once (4429); 0 for no limit, since a \
     hospital may have one address",
);
const HANDSHAKES_PER_SECOND: Setting = Setting::new(
    "HANDSHAKES_PER_SECOND",
    Some("0"),
    "0 to 1000000: handshakes a second, ten times as many at once; more are refused (429); 0 for no limit",
);
const HANDSHAKES_OF_PARTICIPANT: RateSettings = RateSettings {
    per_second: Setting::new(
        "HANDSHAKES_PER_PARTICIPANT_PER_SECOND",
        Some("5"),
        "0 to 1000000: handshakes a second of one user or contact in this gateway; more are refused (429); 0 for no limit",
    ),
    burst: Setting::new(
        "HANDSHAKES_PER_PARTICIPANT_BURST",
        Some("100"),
        "1 to 10000000: handshakes of one user or contact at once",
    ),
};

/// Limits of sockets and handshakes. Without a rate there is no limit.
#[derive(Debug, Clone)]
pub struct RateLimitConfig {
    /// Sockets of one participant; 0 for no limit.
    pub max_sockets_per_participant: u32,
    /// Sockets of one address; 0 for no limit.
    pub max_sockets_per_address: u32,
    /// Handshakes of all clients.
    pub handshakes: Option<Rate>,
    /// Handshakes of one participant.
    pub participant: Option<Rate>,
    /// Handshakes of one address.
    pub address: Option<Rate>,
    /// Invalid tokens of one address.
    pub invalid_token: Option<Rate>,
    /// Handshakes of one address without a token.
    pub missing_token: Option<Rate>,
}

impl RateLimitConfig {
    pub(super) fn read(env: &mut Env) -> Option<Self> {
        let max_sockets_per_participant = env.read_number(&MAX_SOCKETS_PER_PARTICIPANT, 0..=1_000_000);
        let max_sockets_per_address = env.read_number(&MAX_SOCKETS_PER_ADDRESS, 0..=1_000_000);
        let handshakes = env.read_number::<u32>(&HANDSHAKES_PER_SECOND, 0..=1_000_000);
        let participant = HANDSHAKES_OF_PARTICIPANT.read(env);
        let address = token_bucket::ADDRESS_RATE.read(env);
        let invalid_token = token_bucket::FAILED_TOKEN_RATE.read(env);
        let missing_token = token_bucket::MISSING_TOKEN_RATE.read(env);
        Some(Self {
            max_sockets_per_participant: max_sockets_per_participant?,
            max_sockets_per_address: max_sockets_per_address?,
            handshakes: handshakes.map(|rate| Rate::new(rate, rate.saturating_mul(10)))?,
            participant: participant?,
            address: address?,
            invalid_token: invalid_token?,
            missing_token: missing_token?,
        })
    }
}
