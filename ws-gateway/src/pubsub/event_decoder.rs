//! Opens what the API service has sealed: once a gateway for each event, however many sockets get it.
//!
//! What does not open is passed on to nobody. It is counted and told loudly, and whoever should have got it is told to load
//! the history (`resync`).

use std::time::{Duration, Instant};

use metrics::counter;
use parking_lot::Mutex;
use shared::channel::Channel;
use shared::event::{Cursor, Event, InvalidEvent};
use shared::relay_keys::{OpenError, RelayKeys};
use shared::repeated::LogThrottle;

/// Between two lines of the log about it: with a key that is missing, every event is one.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Reads events, sealed or not.
#[derive(Debug, Default)]
pub struct EventDecoder {
    keys: RelayKeys,
    logged_at: Mutex<Option<Instant>>,
    malformed: LogThrottle,
}

/// What came in place of an event that can be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventDecodeError {
    /// Nothing of ours: to be ignored.
    Invalid(InvalidEvent),
    /// An event that cannot be read here.
    Undecryptable,
}

impl EventDecoder {
    /// Opens with these keys.
    #[must_use]
    pub fn new(keys: RelayKeys) -> Self {
        Self { keys, ..Self::default() }
    }

    /// What came on a channel.
    ///
    /// # Errors
    /// [`EventDecodeError`]
    pub fn decode_live<'a>(&self, channel: &str, payload: &'a [u8]) -> Result<Event<'a>, EventDecodeError> {
        self.keys.open_live(channel, payload).map_err(|error| self.reject(channel, &error))
    }

    /// An entry of a channel's log, and the place before it. `None` for the entry that only opens the log.
    ///
    /// # Errors
    /// [`EventDecodeError`]
    pub fn decode_logged(
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

    /// Counts what came on a channel or stood in a log and is no event, and says so now and then: never its content.
    pub fn report_malformed(&self, channel: &str) {
        counter!("gateway_malformed_events_total").increment(1);
        if let Some(times) = self.malformed.record(1) {
            tracing::error!(channel, times, "ignored what is no event");
        }
    }

    fn reject(&self, channel: &str, error: &OpenError) -> EventDecodeError {
        let cause = match error {
            OpenError::Invalid(invalid) => return EventDecodeError::Invalid(*invalid),
            OpenError::UnknownKey(_) => "unknown_key",
            OpenError::AuthenticationFailed(_) => "refused",
            OpenError::Unsealed => "unsealed",
        };
        counter!("gateway_unreadable_events_total", "cause" => cause).increment(1);
        let mut logged_at = self.logged_at.lock();
        if logged_at.is_none_or(|logged_at| logged_at.elapsed() >= LOG_INTERVAL) {
            *logged_at = Some(Instant::now());
            tracing::error!(channel, %error, "an event cannot be passed on; its sockets are told to load the history");
        }
        EventDecodeError::Undecryptable
    }
}
