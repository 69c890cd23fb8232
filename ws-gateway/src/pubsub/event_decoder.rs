//! Decodes events, and decrypts them if they are sealed: once per gateway, for all sockets.
//!
//! An event that cannot be decrypted is counted, logged and not delivered. Its sockets receive `resync`.

use std::time::{Duration, Instant};

use metrics::counter;
use parking_lot::Mutex;
use shared::contract::event::relay_keys::{OpenError, RelayKeys};
use shared::contract::event::{Cursor, Event, InvalidEvent};
use shared::contract::redis::keys::Channel;
use shared::kit::telemetry::log_throttle::LogThrottle;

/// Between two log lines. If a key is missing, every event fails.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Decodes live and logged events.
#[derive(Debug, Default)]
pub(crate) struct EventDecoder {
    keys: RelayKeys,
    logged_at: Mutex<Option<Instant>>,
    malformed: LogThrottle,
}

/// Why an event cannot be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventDecodeError {
    /// It is not an event, and is ignored.
    Invalid(InvalidEvent),
    /// It is an event that this gateway cannot decrypt.
    Undecryptable,
}

impl EventDecoder {
    /// Decrypts with these keys.
    #[must_use]
    pub(crate) fn new(keys: RelayKeys) -> Self {
        Self { keys, ..Self::default() }
    }

    /// Decodes the payload of a channel.
    ///
    /// # Errors
    /// [`EventDecodeError`]
    pub(crate) fn decode_live<'a>(&self, channel: &str, payload: &'a [u8]) -> Result<Event<'a>, EventDecodeError> {
        self.keys.open_live(channel, payload).map_err(|error| self.reject(channel, &error))
    }

    /// Decodes a log entry. `positions` are its own and its predecessor's. `None` for the marker that opens a log.
    ///
    /// # Errors
    /// [`EventDecodeError`]
    pub(crate) fn decode_logged(
        &self,
        channel: &Channel,
        positions: [Cursor; 2],
        kind: &str,
        header: &str,
        rest: &[u8],
    ) -> Result<Option<Event<'static>>, EventDecodeError> {
        let channel = channel.as_str();
        self.keys.open_logged(channel, positions, kind, header, rest).map_err(|error| self.reject(channel, &error))
    }

    /// Counts and logs a payload or entry that is not an event. Its content is never logged.
    pub(crate) fn report_malformed(&self, channel: &str) {
        counter!("ehr_chat_gateway_malformed_events_total").increment(1);
        if let Some(times) = self.malformed.record(1) {
            tracing::error!(channel, times, "malformed event ignored");
        }
    }

    fn reject(&self, channel: &str, error: &OpenError) -> EventDecodeError {
        let cause = match error {
            OpenError::Invalid(invalid) => return EventDecodeError::Invalid(*invalid),
            OpenError::UnknownKey(_) => "unknown_key",
            OpenError::AuthenticationFailed(_) => "refused",
            OpenError::Unsealed => "unsealed",
        };
        counter!("ehr_chat_gateway_event_decrypt_failures_total", "cause" => cause).increment(1);
        let mut logged_at = self.logged_at.lock();
        if logged_at.is_none_or(|logged_at| logged_at.elapsed() >= LOG_INTERVAL) {
            *logged_at = Some(Instant::now());
            tracing::error!(channel, %error, "event not decryptable, sockets must reload the history");
        }
        EventDecodeError::Undecryptable
    }
}
