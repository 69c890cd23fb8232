//! The one way by which messages are written: sends that arrive while a transaction is in flight share the next one.
//!
//! No timer: an idle system adds no latency, a loaded one pays one commit for many sends.

mod queue;

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use shared::ids::{ConversationId, LocationId};
use shared::redacted::Redacted;
use shared::trace;
use tokio::sync::{Notify, oneshot};

use crate::domain::error::Refused;
use crate::domain::message::NewMessage;
use crate::domain::origin::Origin;
use crate::publisher::Publisher;
use crate::store::{Done, SendOutcome, Store, StoreError};
use queue::Queue;

/// Sends in one transaction.
const MAX_BATCH: usize = 256;
/// How often a batch is tried when another transaction stands in the way.
const ATTEMPTS: usize = 3;

/// A message as clients get it: on disk, and certain to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The message.
    pub json: Redacted<String>,
    /// Whether this send made it; otherwise an earlier one with the same `client_message_id` did.
    pub created: bool,
}

/// Where sends are handed in. Clones share the queue, which closes with the last of them.
#[derive(Clone)]
pub struct Writer {
    entrance: Arc<Entrance>,
}

/// The other end of the queue.
pub struct Sends {
    line: Arc<Line>,
}

struct Entrance(Arc<Line>);

#[derive(Default)]
struct Line {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    queue: Queue<LocationId, ConversationId, Pending>,
    is_closed: bool,
}

/// A send, and who waits for it.
struct Pending {
    new: Arc<NewMessage>,
    origin: Origin,
    answer: oneshot::Sender<Result<Written, Refused>>,
    since: Instant,
}

/// A queue for sends.
#[must_use]
pub fn queue() -> (Writer, Sends) {
    let line: Arc<Line> = Arc::default();
    (Writer { entrance: Arc::new(Entrance(line.clone())) }, Sends { line })
}

impl Drop for Entrance {
    fn drop(&mut self) {
        self.0.state.lock().is_closed = true;
        self.0.changed.notify_one();
    }
}

impl Writer {
    /// Writes a message, and who sent it. A caller that goes away in the meantime takes nothing back.
    ///
    /// # Errors
    /// [`Refused`]; [`Refused::Overloaded`] when too many sends wait already, in all or of this location or conversation.
    pub async fn write(&self, new: NewMessage, origin: Origin) -> Result<Written, Refused> {
        let (answer, answered) = oneshot::channel();
        let new = Arc::new(new);
        let pending = Pending { new: new.clone(), origin, answer, since: Instant::now() };
        let line = &self.entrance.0;
        let pushed = line.state.lock().queue.push(new.conversation.location(), &new.conversation.id(), pending);
        if pushed.is_err() {
            metrics::counter!("send_queue_overflows_total").increment(1);
            return Err(Refused::Overloaded);
        }
        line.changed.notify_one();
        let _span = trace::child("commit");
        answered.await.unwrap_or(Err(Refused::Overloaded))
    }
}

impl Sends {
    /// The sends of the next transaction, once there are any; none when nobody can hand in sends any more.
    async fn next(&self) -> Vec<Pending> {
        loop {
            {
                let state = self.line.state.lock();
                if state.queue.len() > 0 {
                    break;
                }
                if state.is_closed {
                    return Vec::new();
                }
            }
            self.line.changed.notified().await;
        }
        // Requests that have arrived and were not looked at yet come along; an idle system has none.
        tokio::task::yield_now().await;
        let mut state = self.line.state.lock();
        let batch = std::iter::from_fn(|| state.queue.pop()).take(MAX_BATCH).collect();
        metrics::gauge!("send_queue_depth").set(state.queue.len() as f64);
        batch
    }
}

/// Writes until nobody can hand in sends any more.
pub async fn run(store: Store, publisher: Publisher, sends: Sends) {
    loop {
        let batch = sends.next().await;
        let Some(longest) = batch.iter().map(|send| send.since.elapsed()).max() else { return };
        metrics::histogram!("send_batch_size").record(batch.len() as f64);
        metrics::histogram!("send_wait_seconds").record(longest);
        let start = Instant::now();
        let (mut new, mut origins, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
        for send in batch {
            new.push(send.new);
            origins.push(send.origin);
            waiting.push(send.answer);
        }
        let outcomes = write(&store, &publisher, &new, &origins).await;
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
async fn write(
    store: &Store,
    publisher: &Publisher,
    batch: &[Arc<NewMessage>],
    origins: &[Origin],
) -> Vec<Result<SendOutcome, Refused>> {
    match attempt(store, publisher, batch, origins).await {
        Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
        Err(error @ StoreError::Unavailable(_)) => {
            tracing::warn!(%error, sends = batch.len(), "nothing was written");
            batch.iter().map(|_| Err(error.repeat().into())).collect()
        }
        Err(error) if batch.len() == 1 => vec![Err(error.into())],
        Err(error) => {
            tracing::warn!(%error, sends = batch.len(), "a batch failed; its sends are tried one by one");
            let mut outcomes = Vec::with_capacity(batch.len());
            for (new, origin) in batch.iter().zip(origins) {
                let (new, origin) = (std::slice::from_ref(new), std::slice::from_ref(origin));
                let alone = attempt(store, publisher, new, origin).await;
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
    origins: &[Origin],
) -> Result<Vec<SendOutcome>, StoreError> {
    let mut attempts = 1;
    loop {
        match store.send(batch, origins).await {
            Ok(Done { outcomes, entry }) => {
                publisher.publish(entry);
                return Ok(outcomes);
            }
            Err(StoreError::Contended(_)) if attempts < ATTEMPTS => attempts += 1,
            Err(error) => return Err(error),
        }
    }
}
