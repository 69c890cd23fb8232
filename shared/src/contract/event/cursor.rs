//! Positions in the event log.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

/// The place of an event in the log of its conversation: the id of a Redis stream entry.
/// Opaque to clients. Cursors of one conversation order as its events do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor {
    pub(super) millis: u64,
    pub(super) count: u64,
}

impl Cursor {
    /// Before every event.
    pub const START: Self = Self { millis: 0, count: 0 };

    /// How long ago the event was logged: Redis's clock when it was, this machine's now, so it is as good as these agree.
    #[must_use]
    pub fn age(self) -> Duration {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        now.saturating_sub(Duration::from_millis(self.millis))
    }
}

/// Text that is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a cursor that this server gave out")]
pub struct InvalidCursor;

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        // `parse::<u64>` takes a leading plus sign, Redis does not.
        let number = |digits: &str| match digits.bytes().all(|b| b.is_ascii_digit()) {
            true => digits.parse().map_err(|_| InvalidCursor),
            false => Err(InvalidCursor),
        };
        let (millis, count) = text.split_once('-').ok_or(InvalidCursor)?;
        Ok(Self { millis: number(millis)?, count: number(count)? })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.count)
    }
}
