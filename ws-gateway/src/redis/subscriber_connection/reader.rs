//! The read half.

use std::fmt;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, ReadHalf};
use tokio::time::Instant;

use super::Stream;
use super::error::ConnectionError;
use super::reply_queue::ReplyQueue;
use crate::redis::resp::{self, Reply};

/// Bytes per read.
const READ_BYTES: usize = 64 * 1024;

/// A larger buffer is freed once it is empty.
pub(super) const MAX_IDLE_BUFFER_BYTES: usize = 4 * READ_BYTES;

/// The read half. Replies are delivered only while it is polled.
pub(crate) struct SubscriberReader {
    pub(super) reader: ReadHalf<Box<dyn Stream>>,
    pub(super) replies: Arc<ReplyQueue>,
    pub(super) buffer: Vec<u8>,
    /// The unparsed part of `buffer`.
    pub(super) filled: std::ops::Range<usize>,
}

/// A message that is not a reply to a command.
#[derive(PartialEq, Eq)]
pub(crate) enum Push<'a> {
    Event {
        channel: &'a str,
        payload: &'a [u8],
    },
    /// A subscription has ended, on request or not.
    Unsubscribed(&'a str),
}

/// A payload may contain a message.
impl fmt::Debug for Push<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event { channel, .. } => f.debug_struct("Event").field("channel", channel).finish_non_exhaustive(),
            Self::Unsubscribed(channel) => f.debug_tuple("Unsubscribed").field(channel).finish(),
        }
    }
}

impl SubscriberReader {
    /// Reads more bytes. It is cancel-safe.
    ///
    /// # Errors
    /// If the connection is closed or fails.
    pub(crate) async fn read_more(&mut self) -> Result<(), ConnectionError> {
        if self.filled.is_empty() {
            self.filled = 0..0;
            if self.buffer.len() > MAX_IDLE_BUFFER_BYTES {
                self.buffer = Vec::new();
            }
        }
        // Moves an incomplete reply to the front when the rest of the buffer is short.
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

    /// Parses all complete messages: pushes go to `on_push`, replies to their barrier.
    ///
    /// # Errors
    /// If the bytes are invalid or a reply is unexpected.
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
                Reply::Text(reply) => self.replies.reply(reply)?,
                Reply::Error(error) => self.replies.with_next(|outcome| outcome.errors.push(error.to_owned()))?,
            }
            self.filled.start += used;
        }
        Ok(())
    }
}
