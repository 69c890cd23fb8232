//! The one way by which messages are written: sends that arrive while a transaction is in flight share the next one.
//!
//! No timer: an idle system adds no latency, a loaded one pays one commit for many sends.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use crate::domain::error::Refused;
use crate::domain::message::NewMessage;
use crate::publisher::Publisher;
use crate::store::{Done, SendOutcome, Store, StoreError};

/// Sends that may wait. More are refused: [`Refused::Overloaded`].
const QUEUE: usize = 4_096;
/// Sends in one transaction.
const MAX_BATCH: usize = 256;
/// How often a batch is tried when another transaction stands in the way.
const ATTEMPTS: usize = 3;

/// A message as clients get it: on disk, and certain to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The message.
    pub json: String,
    /// Whether this send made it; otherwise an earlier one with the same `client_message_id` did.
    pub created: bool,
}

/// Where sends are handed in. Clones share the queue.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<Pending>,
}

/// A send, and who waits for it.
pub struct Pending {
    new: Arc<NewMessage>,
    answer: oneshot::Sender<Result<Written, Refused>>,
}

/// A queue for sends.
#[must_use]
pub fn queue() -> (Writer, mpsc::Receiver<Pending>) {
    let (queue, pending) = mpsc::channel(QUEUE);
    (Writer { queue }, pending)
}

impl Writer {
    /// Writes a message. A caller that goes away in the meantime takes nothing back.
    ///
    /// # Errors
    /// [`Refused`]
    pub async fn write(&self, new: NewMessage) -> Result<Written, Refused> {
        let (answer, answered) = oneshot::channel();
        if self.queue.try_send(Pending { new: Arc::new(new), answer }).is_err() {
            metrics::counter!("send_queue_overflows_total").increment(1);
            return Err(Refused::Overloaded);
        }
        answered.await.unwrap_or(Err(Refused::Overloaded))
    }
}

/// Writes until nobody can hand in sends any more.
pub async fn run(store: Store, publisher: Publisher, mut pending: mpsc::Receiver<Pending>) {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    while pending.recv_many(&mut batch, MAX_BATCH).await > 0 {
        // Requests that have arrived and were not looked at yet come along; an idle system has none.
        tokio::task::yield_now().await;
        while batch.len() < MAX_BATCH
            && let Ok(send) = pending.try_recv()
        {
            batch.push(send);
        }
        metrics::histogram!("send_batch_size").record(batch.len() as f64);
        let start = Instant::now();
        let (new, waiting): (Vec<_>, Vec<_>) = batch.drain(..).map(|send| (send.new, send.answer)).unzip();
        let outcomes = write(&store, &publisher, &new).await;
        metrics::histogram!("send_commit_seconds").record(start.elapsed());
        for (outcome, answer) in outcomes.into_iter().zip(waiting) {
            let answered = outcome.and_then(|outcome| match outcome {
                SendOutcome::Sent(json) => Ok(Written { json, created: true }),
                SendOutcome::Repeated(json) => Ok(Written { json, created: false }),
                SendOutcome::IdReused => Err(Refused::IdReused),
            });
            // Whoever no longer waits can ask again, or read the history.
            let _ = answer.send(answered);
        }
    }
}

/// Writes and publishes a batch, and says what became of each send. One that the database refuses does not take its
/// neighbours with it.
async fn write(store: &Store, publisher: &Publisher, batch: &[Arc<NewMessage>]) -> Vec<Result<SendOutcome, Refused>> {
    match attempt(store, publisher, batch).await {
        Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
        Err(error @ StoreError::Unavailable(_)) => {
            tracing::warn!(%error, sends = batch.len(), "nothing was written");
            batch.iter().map(|_| Err(error.repeat().into())).collect()
        }
        Err(error) if batch.len() == 1 => vec![Err(error.into())],
        Err(error) => {
            tracing::warn!(%error, sends = batch.len(), "a batch failed; its sends are tried one by one");
            let mut outcomes = Vec::with_capacity(batch.len());
            for new in batch {
                let alone = attempt(store, publisher, std::slice::from_ref(new)).await;
                outcomes.push(
                    alone
                        .map_err(Refused::from)
                        .and_then(|mut outcome| outcome.pop().ok_or_else(|| StoreError::internal("no outcome").into())),
                );
            }
            outcomes
        }
    }
}

async fn attempt(
    store: &Store,
    publisher: &Publisher,
    batch: &[Arc<NewMessage>],
) -> Result<Vec<SendOutcome>, StoreError> {
    let mut attempts = 1;
    loop {
        match store.send(batch).await {
            Ok(Done { outcomes, entry }) => {
                publisher.publish(entry);
                return Ok(outcomes);
            }
            Err(StoreError::Contended(_)) if attempts < ATTEMPTS => attempts += 1,
            Err(error) => return Err(error),
        }
    }
}
