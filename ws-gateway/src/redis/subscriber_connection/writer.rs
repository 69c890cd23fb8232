//! The write half, with the barrier.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::Stream;
use super::error::ConnectionError;
use super::reply_queue::{BarrierReply, PendingReply, ReplyQueue};

/// The write half. Clones share it.
#[derive(Clone)]
pub(crate) struct SubscriberWriter {
    pub(super) writer: Arc<tokio::sync::Mutex<WriteHalf<Box<dyn Stream>>>>,
    pub(super) replies: Arc<ReplyQueue>,
    pub(super) reply_timeout: Duration,
}

impl SubscriberWriter {
    /// Sends commands, followed by a `PING` with a unique payload as a barrier.
    ///
    /// Redis executes the commands of a connection in order. So the reply to the `PING` proves that every command
    /// before it was executed or rejected. The reply stands behind all events that were published earlier. Therefore
    /// the timeout restarts whenever bytes arrive.
    pub(crate) async fn send_with_barrier(&self, mut commands: Vec<u8>) -> Result<BarrierReply, ConnectionError> {
        let token = Uuid::now_v7().to_string();
        command(&mut commands, &["PING", &token]);
        let (done, replied) = oneshot::channel();
        let barrier = async {
            let mut writer = self.writer.lock().await;
            // Under the lock, so that the queue has the order of the commands.
            self.replies.pending.lock().push_back(PendingReply { token, outcome: BarrierReply::default(), done });
            writer.write_all(&commands).await?;
            writer.flush().await?;
            drop(writer);
            replied.await.map_err(|_| ConnectionError::Closed)?
        };
        let mut barrier = pin!(barrier);
        let mut since = Instant::now();
        loop {
            if let Ok(reply) = timeout_at(since + self.reply_timeout, &mut barrier).await {
                return reply;
            }
            let last_received_at = *self.replies.last_received_at.lock();
            since = last_received_at.filter(|at| *at > since).ok_or(ConnectionError::Timeout)?;
        }
    }
}

/// Appends a command in RESP.
pub(crate) fn command(out: &mut Vec<u8>, words: &[&str]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
}
