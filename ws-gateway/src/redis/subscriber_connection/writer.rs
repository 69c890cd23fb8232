//! The write half.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::reply_queue::{BarrierReply, PendingReply, ReplyQueue};
use super::{ConnectionError, Stream, command};

/// The end that asks. Clones are one.
#[derive(Clone)]
pub(crate) struct SubscriberWriter {
    pub(super) writer: Arc<tokio::sync::Mutex<WriteHalf<Box<dyn Stream>>>>,
    pub(super) replies: Arc<ReplyQueue>,
    pub(super) reply_timeout: Duration,
}

impl SubscriberWriter {
    /// Sends commands and a question behind them that nothing else asks: its answer is the proof that all of them were done,
    /// or refused. It waits for as long as anything is heard, since the answer stands behind whatever was published before.
    pub(crate) async fn send_with_barrier(&self, mut commands: Vec<u8>) -> Result<BarrierReply, ConnectionError> {
        let token = Uuid::now_v7().to_string();
        command(&mut commands, &["PING", &token]);
        let (done, answered) = oneshot::channel();
        let asking = async {
            let mut writer = self.writer.lock().await;
            // Under the lock: questions are known in the order in which they are sent.
            self.replies.pending.lock().push_back(PendingReply { token, outcome: BarrierReply::default(), done });
            writer.write_all(&commands).await?;
            writer.flush().await?;
            drop(writer);
            answered.await.map_err(|_| ConnectionError::Closed)?
        };
        let mut asking = pin!(asking);
        let mut since = Instant::now();
        loop {
            if let Ok(answered) = timeout_at(since + self.reply_timeout, &mut asking).await {
                return answered;
            }
            let last_received_at = *self.replies.last_received_at.lock();
            since = last_received_at.filter(|at| *at > since).ok_or(ConnectionError::Timeout)?;
        }
    }
}
