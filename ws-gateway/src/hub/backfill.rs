//! What a room keeps while it reads its log: the live events that must follow those of the log.
//!
//! Bound: [`MAX_BUFFERED_BYTES`] per room.

use std::sync::Arc;

use shared::contract::event::Cursor;

use crate::socket::EncodedEvent;

/// Largest backfill buffer. Beyond it the buffer is dropped, and the log is read once more.
const MAX_BUFFERED_BYTES: usize = 1024 * 1024;

/// Live events that arrive from the moment a gap is noticed until the backfill ends.
#[derive(Debug, Default)]
pub(super) struct BackfillBuffer {
    events: Vec<Arc<EncodedEvent>>,
    bytes: usize,
    /// The newest event that arrived, even if it was dropped since.
    newest: Option<Cursor>,
    /// The newest event at the start of the read. The log must contain it, because publishing writes the log first.
    expected: Option<Cursor>,
    is_reading: bool,
    /// Another gap was noticed during the read, or the buffer overflowed. The log must be read again.
    must_repeat: bool,
}

/// The result of reading a conversation's log.
#[derive(Debug)]
pub(crate) enum Backfill {
    /// The log still holds the last event that was sent. These came after it.
    Events(Vec<Arc<EncodedEvent>>),
    /// The log no longer holds that event, so the missed events are unknown. This is the log's newest entry.
    Gap(Cursor),
}

impl BackfillBuffer {
    /// Keeps a live event for later.
    pub(super) fn push(&mut self, cursor: Cursor, delivery: Arc<EncodedEvent>) {
        self.newest = self.newest.max(Some(cursor));
        self.bytes += delivery.frame().len();
        self.events.push(delivery);
        if self.bytes > MAX_BUFFERED_BYTES {
            metrics::counter!("ehr_chat_gateway_backfill_overflows_total").increment(1);
            self.clear();
        }
    }

    /// Drops what is kept: the log must be read again.
    pub(super) fn clear(&mut self) {
        self.events = Vec::new();
        self.bytes = 0;
        self.must_repeat = true;
    }

    /// Begins a read of the log, unless one is running. Returns whether it began.
    pub(super) fn start_read(&mut self) -> bool {
        if self.is_reading {
            return false;
        }
        // Publishing writes the log first. So the read will return what was buffered up to now.
        *self = Self { newest: self.newest, expected: self.newest, is_reading: true, ..Self::default() };
        true
    }

    /// The read failed and will be repeated.
    pub(super) fn read_failed(&mut self) {
        self.is_reading = false;
    }

    /// Whether the log lacks an event that had arrived before the read: it ended at `position`.
    pub(super) fn expects_more_than(&self, position: Cursor) -> bool {
        self.expected > Some(position)
    }

    /// The newest event belonged to a log that is lost.
    pub(super) fn forget_newest(&mut self) {
        self.newest = None;
    }

    /// Ends the read. Returns the events that follow those of the log.
    ///
    /// # Errors
    /// The buffer of the next read, if the log must be read again.
    pub(super) fn finish_read(self) -> Result<Vec<Arc<EncodedEvent>>, Self> {
        match self.must_repeat {
            true => Err(Self { newest: self.newest, ..Self::default() }),
            false => Ok(self.events),
        }
    }
}
