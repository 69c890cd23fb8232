//! The one way by which messages are written: sends that arrive while a transaction is in flight share the next one.
//!
//! No timer: an idle system adds no latency, a loaded one pays one commit for many sends. What cannot be written at once
//! waits for a bounded time ([`pending`]), and holds up nobody else ([`batch`]).

mod batch;
mod fair_queue;
mod lock_watch;
mod pending;
mod shared_queue;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::redacted::Redacted;
use shared::trace;
use tokio::time::{sleep, timeout};

use crate::domain::error::Refused;
use crate::model::message::NewMessage;
use crate::model::origin::Origin;
use crate::publisher::Publisher;
use crate::store::Store;
use batch::{Batches, Ended};
use pending::pending;
use shared_queue::{Group, Line, Next};

/// How long the database may take to say that it is there, after a batch that it did not answer.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// Between two looks whether it is back.
const LOOK_EVERY: Duration = Duration::from_millis(100);

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

/// A queue for sends.
#[must_use]
pub fn queue() -> (Writer, Sends) {
    let line: Arc<Line> = Arc::default();
    (Writer { entrance: Arc::new(Entrance(line.clone())) }, Sends { line })
}

impl Drop for Entrance {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Writer {
    /// Writes a message, and who sent it. When `gone` ends, the caller has gone: then, and when this future is dropped, a send
    /// whose transaction has not started is not written.
    ///
    /// # Errors
    /// [`Refused`]; [`Refused::Overloaded`] when too many sends wait already, in all or of this location or conversation;
    /// [`Refused::TooLate`] when its transaction did not start in time, and nothing was written.
    pub async fn write(
        &self,
        new: NewMessage,
        origin: Origin,
        gone: impl Future<Output = ()>,
    ) -> Result<Written, Refused> {
        let (pending, waiter) = pending(Arc::new(new), origin);
        self.entrance.0.push(pending)?;
        let _span = trace::child("commit");
        waiter.outcome(gone).await
    }
}

impl Sends {
    /// The sends of the next transaction, once there are any; none when nobody can hand in sends any more.
    async fn next(&self) -> Option<Group> {
        loop {
            while !self.line.has_work() {
                self.line.changed.notified().await;
            }
            // Requests that have arrived and were not looked at yet come along; an idle system has none.
            tokio::task::yield_now().await;
            match self.line.next() {
                Next::Batch(group) => return Some(group),
                Next::Nothing => {}
                Next::Closed => return None,
            }
        }
    }
}

/// Writes until nobody can hand in sends any more.
pub async fn run(store: Store, publisher: Publisher, sends: Sends) {
    tokio::select! {
        () = write(&store, &publisher, &sends) => {}
        () = lock_watch::watch(&store, &sends.line) => {}
    }
}

async fn write(store: &Store, publisher: &Publisher, sends: &Sends) {
    let batches = Batches { store, publisher, line: &sends.line };
    while let Some(group) = sends.next().await {
        let Some(longest) = group.callers.iter().map(|caller| caller.since.elapsed()).max() else { continue };
        metrics::histogram!("send_batch_size").record(group.len() as f64);
        metrics::histogram!("send_wait_seconds").record(longest);
        let start = Instant::now();
        let ended = batches.write(group).await;
        metrics::histogram!("send_commit_seconds").record(start.elapsed());
        if ended == Ended::Cut {
            until_back(store, &sends.line).await;
        }
    }
}

/// The database did not answer. While it is away nothing waits: sends are refused at once.
async fn until_back(store: &Store, line: &Line) {
    if matches!(timeout(SIGN_OF_LIFE, store.ping()).await, Ok(Ok(()))) {
        return; // It was one connection.
    }
    line.away(true);
    while !line.is_closed() && store.ping().await.is_err() {
        sleep(LOOK_EVERY).await;
    }
    line.away(false);
}
