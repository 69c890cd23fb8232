//! The read half.

use std::fmt;

use tokio::io::{AsyncReadExt, ReadHalf};
use tokio::time::Instant;

use super::reply_queue::ReplyQueue;
use super::{ConnectionError, Stream};
use crate::redis::resp::{self, Reply};
use std::sync::Arc;

/// Room for what is read at a time.
const READ_BYTES: usize = 64 * 1024;

/// What an event may make the buffer grow to for good.
pub(super) const MAX_IDLE_BUFFER_BYTES: usize = 4 * READ_BYTES;

/// The end that hears. Answers arrive only while it is asked for what comes next.
pub(crate) struct SubscriberReader {
    pub(super) reader: ReadHalf<Box<dyn Stream>>,
    pub(super) replies: Arc<ReplyQueue>,
    pub(super) buffer: Vec<u8>,
    /// Of `buffer`: read and not yet heard.
    pub(super) filled: std::ops::Range<usize>,
}

/// What concerns others than who has asked.
#[derive(PartialEq, Eq)]
pub(crate) enum Push<'a> {
    Event {
        channel: &'a str,
        payload: &'a [u8],
    },
    /// A subscription has ended, whoever wanted that.
    Unsubscribed(&'a str),
}

/// An event is what somebody wrote.
impl fmt::Debug for Push<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event { channel, .. } => f.debug_struct("Event").field("channel", channel).finish_non_exhaustive(),
            Self::Unsubscribed(channel) => f.debug_tuple("Unsubscribed").field(channel).finish(),
        }
    }
}

impl SubscriberReader {
    /// Waits until more has come. To be given up at any time.
    ///
    /// # Errors
    /// When nothing more will come.
    pub(crate) async fn read_more(&mut self) -> Result<(), ConnectionError> {
        if self.filled.is_empty() {
            self.filled = 0..0;
            if self.buffer.len() > MAX_IDLE_BUFFER_BYTES {
                self.buffer = Vec::new();
            }
        }
        // The beginning of something goes to the front when what is behind it gets short.
        if self.buffer.len() - self.filled.end < READ_BYTES / 2 {
            self.buffer.copy_within(self.filled.clone(), 0);
            self.filled = 0..self.filled.len();
            if self.buffer.len() - self.filled.end < READ_BYTES / 2 {
                self.buffer.resize(self.filled.end + READ_BYTES, 0);
            }
        }
        match self.reader.read(&mut self.buffer[self.filled.end..]).await? {
            0 => Err(ConnectionError::Closed),
            read => {
                self.filled.end += read;
                *self.replies.last_received_at.lock() = Some(Instant::now());
                Ok(())
            }
        }
    }

    /// Hands on all that has come in full, and answers who has asked.
    ///
    /// # Errors
    /// When what has come means nothing.
    pub(crate) fn handle_received(&mut self, mut on_push: impl FnMut(Push<'_>)) -> Result<(), ConnectionError> {
        while let Some((reply, used)) = resp::parse(&self.buffer[self.filled.clone()])? {
            match reply {
                Reply::Event { channel, payload } => on_push(Push::Event { channel, payload }),
                Reply::Push("subscribe" | "ssubscribe", channel) => {
                    self.replies.with_next(|outcome| outcome.subscribed.push(channel.to_owned()))?;
                }
                Reply::Push("unsubscribe" | "sunsubscribe", channel) => {
                    self.replies.remove_subscription(channel);
                    on_push(Push::Unsubscribed(channel));
                }
                Reply::Push(..) | Reply::Other => {}
                Reply::Text(answer) => self.replies.answer(answer)?,
                Reply::Error(error) => self.replies.with_next(|outcome| outcome.errors.push(error.to_owned()))?,
            }
            self.filled.start += used;
        }
        Ok(())
    }
}
