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
use shared::repeated::Repeated;

/// Between two lines of the log about it: with a key that is missing, every event is one.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Reads events, sealed or not.
#[derive(Debug, Default)]
pub struct Unsealing {
    keys: RelayKeys,
    told_at: Mutex<Option<Instant>>,
    malformed: Repeated,
}

/// What came in place of an event that can be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// Nothing of ours: to be ignored.
    Invalid(InvalidEvent),
    /// An event that cannot be read here.
    Sealed,
}

impl Unsealing {
    /// Opens with these keys.
    #[must_use]
    pub fn new(keys: RelayKeys) -> Self {
        Self { keys, ..Self::default() }
    }

    /// What came on a channel.
    ///
    /// # Errors
    /// [`JwkError`]
    pub fn live<'a>(&self, channel: &str, payload: &'a [u8]) -> Result<Event<'a>, Unusable> {
        self.keys.open_live(channel, payload).map_err(|why| self.refuse(channel, &why))
    }

    /// An entry of a channel's log, and the place before it. `None` for the entry that only opens the log.
    ///
    /// # Errors
    /// [`JwkError`]
    pub fn logged(
        &self,
        channel: &Channel,
        places: [Cursor; 2],
        kind: &str,
        header: &str,
        rest: &[u8],
    ) -> Result<Option<Event<'static>>, Unusable> {
        let channel = channel.as_str();
        self.keys.open_logged(channel, places, kind, header, rest).map_err(|why| self.refuse(channel, &why))
    }

    /// Counts what came on a channel or stood in a log and is no event, and says so now and then: never its content.
    pub fn malformed(&self, channel: &str) {
        counter!("gateway_malformed_events_total").increment(1);
        if let Some(times) = self.malformed.happened(1) {
            tracing::error!(channel, times, "ignored what is no event");
        }
    }

    fn refuse(&self, channel: &str, why: &OpenError) -> Unusable {
        let cause = match why {
            OpenError::Invalid(invalid) => return Unusable::Invalid(*invalid),
            OpenError::UnknownKey(_) => "unknown_key",
            OpenError::AuthenticationFailed(_) => "refused",
            OpenError::Unsealed => "unsealed",
        };
        counter!("gateway_unreadable_events_total", "cause" => cause).increment(1);
        let mut told_at = self.told_at.lock();
        if told_at.is_none_or(|told_at| told_at.elapsed() >= TELL_EVERY) {
            *told_at = Some(Instant::now());
            tracing::error!(channel, %why, "an event cannot be passed on; its sockets are told to load the history");
        }
        Unusable::Sealed
    }
}
