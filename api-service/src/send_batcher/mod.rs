//! Group commit: the only way to write messages. Sends that arrive during a transaction share the next one.
//!
//! There is no timer. An idle system adds no latency; a loaded one pays one commit for many sends. A send that cannot be written
//! now waits for a bounded time ([`pending`]) and delays no other ([`batch_writer`]).

mod batch_writer;
pub mod error;
mod fair_queue;
mod lock_watch;
mod pending;
mod shared_queue;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::kit::telemetry::trace;
use tokio::time::{sleep, timeout};

use crate::model::send::{SendOutcome, SendRequest};
use crate::outbox::event_queue::EventSender;
use crate::store::Store;
use batch_writer::{BatchOutcome, BatchWriter};
use error::SendError;
use pending::pending_send;
use shared_queue::{Group, NextBatch, SharedQueue};

/// How long PostgreSQL may take to answer a ping after a failed batch.
const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two pings while it is down.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The sending end of the queue. The queue closes when the last clone is dropped.
#[derive(Clone)]
pub struct SendBatcher {
    shared: Arc<CloseOnDrop>,
}

/// The receiving end of the queue.
pub struct BatchReceiver {
    queue: Arc<SharedQueue>,
}

struct CloseOnDrop(Arc<SharedQueue>);

/// Creates a queue.
#[must_use]
pub fn queue() -> (SendBatcher, BatchReceiver) {
    let queue: Arc<SharedQueue> = Arc::default();
    (SendBatcher { shared: Arc::new(CloseOnDrop(queue.clone())) }, BatchReceiver { queue })
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl SendBatcher {
    /// Writes a message with its audit entry. A send is not written if its transaction has not started when `disconnected`
    /// completes or this future is dropped.
    ///
    /// # Errors
    /// [`SendError`]. Nothing was written, except perhaps with [`SendError::Store`].
    pub async fn write(
        &self,
        request: SendRequest,
        disconnected: impl Future<Output = ()>,
    ) -> Result<SendOutcome, SendError> {
        let (pending, waiter) = pending_send(request);
        self.shared.0.push(pending)?;
        let _span = trace::child_span("commit");
        waiter.outcome(disconnected).await
    }
}

impl BatchReceiver {
    /// The next batch; `None` once the queue is closed and empty.
    async fn next(&self) -> Option<Group> {
        loop {
            while !self.queue.is_ready() {
                self.queue.changed.notified().await;
            }
            match self.queue.next_batch() {
                NextBatch::Batch(group) => return Some(group),
                NextBatch::Empty => {}
                NextBatch::Closed => return None,
            }
        }
    }
}

/// Writes until the queue is closed and empty.
pub async fn run(store: Store, events: EventSender, sends: BatchReceiver) {
    tokio::select! {
        () = write(&store, &events, &sends) => {}
        () = lock_watch::watch(&store, &sends.queue) => {}
    }
}

async fn write(store: &Store, events: &EventSender, sends: &BatchReceiver) {
    let batches = BatchWriter { store, events, queue: &sends.queue };
    while let Some(group) = sends.next().await {
        let Some(longest) = group.callers.iter().map(|caller| caller.since.elapsed()).max() else { continue };
        metrics::histogram!("ehr_chat_send_batch_size").record(group.len() as f64);
        metrics::histogram!("ehr_chat_send_queue_wait_seconds").record(longest);
        let start = Instant::now();
        let ended = batches.write(group).await;
        metrics::histogram!("ehr_chat_send_commit_duration_seconds").record(start.elapsed());
        if ended == BatchOutcome::DatabaseLost {
            wait_for_database(store, &sends.queue).await;
        }
    }
}

/// After a batch without an answer: while PostgreSQL is down, sends are rejected at once.
async fn wait_for_database(store: &Store, queue: &SharedQueue) {
    if matches!(timeout(PING_TIMEOUT, store.ping()).await, Ok(Ok(()))) {
        return; // It was one connection.
    }
    queue.set_database_unavailable(true);
    while !queue.is_closed() && store.ping().await.is_err() {
        sleep(POLL_INTERVAL).await;
    }
    queue.set_database_unavailable(false);
}
