//! What the connections of one subscriber share: their parts, their errors, and the delay between attempts.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use super::event_decoder::EventDecoder;
use crate::hub::Hub;
use crate::presence::PresenceRegistry;
use crate::redis::{ConnectionError, RedisConnector};

/// Channels per SUBSCRIBE.
pub(super) const CHANNELS_PER_COMMAND: usize = 1000;
/// Delay between two connection attempts. It doubles up to [`MAX_BACKOFF`].
pub(super) const MIN_BACKOFF: Duration = Duration::from_millis(50);
pub(super) const MAX_BACKOFF: Duration = Duration::from_millis(1600);

/// What every connection needs.
pub(super) struct Subscriber {
    pub(super) redis: RedisConnector,
    pub(super) decoder: Arc<EventDecoder>,
    pub(super) hub: Arc<Hub>,
    pub(super) presence: PresenceRegistry,
}

/// Why a connection failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SubscriberError {
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error("redis: {0}")]
    Rejected(String),
    #[error("redis did not confirm the subscription")]
    Unconfirmed,
    #[error("the sentinels name another master")]
    MasterReplaced,
}

/// Exponential backoff between connection attempts.
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) fn new() -> Self {
        Self(MIN_BACKOFF)
    }

    pub(super) async fn wait(&mut self) {
        // Jitter, so that gateways do not reconnect at the same time.
        let jitter = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.subsec_micros() % 50);
        sleep(self.0 + Duration::from_millis(jitter.into())).await;
        self.0 = (self.0 * 2).min(MAX_BACKOFF);
    }

    pub(super) fn reset(&mut self) {
        self.0 = MIN_BACKOFF;
    }
}
