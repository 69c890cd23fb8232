//! The task that publishes what was committed: at least once, never zero times, in order within a conversation.
//!
//! While Redis takes everything, events go from memory. Once it does not, memory is ignored and the outbox is
//! published, oldest first, until it is empty. A sweep finds what another instance left behind when it died. And what a
//! Redis took shortly before its connection broke is published once more: it may have died with it.
//!
//! A message whose predecessor another instance has in hand waits for it, a moment at most: should that instance have
//! died, its message comes late, and it is better to have this one now.
//!
//! Behind the events, inboxes are told how the conversations stand: `inboxes`.
//!
//! | module | owns |
//! | --- | --- |
//! | `fast_path` | from the commit to Redis without a detour, and the catch-up after an outage |
//! | `relay` | the outbox table: rounds of one relay at a time, and the sweep |
//! | `set_aside` | conversations and nodes that Redis refuses: they wait apart, and nothing waits for them |
//! | `recovery` | tries whether they are taken again |
//! | `settling` | keeps what Redis took until its servers have lived on |
//! | `inboxes` | rows of inboxes |

mod fast_path;
mod inboxes;
mod recovery;
mod relay;
mod set_aside;
mod settling;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shared::redis::Health;
use shared::shutdown::Shutdown;
use tokio::sync::{Mutex, Notify, mpsc, watch};
use uuid::Uuid;

use crate::publisher::{Broker, Committed};
use crate::store::{Store, StoreError};
use fast_path::FastPath;
use set_aside::SetAside;
use settling::Published;

/// Events in one pipeline.
const BATCH: usize = 500;
/// Pause after a failure.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Why the relay got no further.
#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("Redis did not take the events: {0}")]
    Redis(#[from] fred::error::Error),
    #[error("Redis took too long for the events")]
    Late,
}

/// Publishes until nobody can commit any more: the queue is closed and empty.
pub async fn run(
    store: Store,
    broker: Broker,
    committed: Committed,
    health: watch::Receiver<Health>,
    shutdown: Shutdown,
) {
    let (settle, published) = mpsc::channel(settling::QUEUE);
    let connection = health.borrow().connection;
    let outbox = Arc::new(Outbox {
        relay: Uuid::now_v7(),
        relaying: Mutex::new(()),
        store,
        broker,
        settle,
        health,
        set_aside: SetAside::default(),
        is_taken_again: Notify::new(),
        wants_catch_up: Arc::default(),
    });
    // Not of the outbox: the last of that ends the queue, and with it this.
    let settling = settling::Settling::new(&outbox);
    shutdown.spawn("outbox settling", settling.run(published));
    let (tell, told) = mpsc::channel(inboxes::QUEUE);
    shutdown.spawn("inboxes", inboxes::run(outbox.clone(), told));
    let swept = outbox.clone();
    shutdown.spawn_until("outbox sweep", async move {
        tokio::select! {
            () = swept.sweep() => {}
            () = swept.recover() => {}
            () = swept.announce() => {}
        }
    });
    FastPath::new(outbox, tell, committed, connection, shutdown).run().await;
}

/// The outbox, and the way from there to Redis.
struct Outbox {
    /// Under which name this instance takes its turn to relay.
    relay: Uuid,
    /// Its own tasks take turns as well.
    relaying: Mutex<()>,
    store: Store,
    broker: Broker,
    settle: mpsc::Sender<Published>,
    health: watch::Receiver<Health>,
    set_aside: SetAside,
    /// Redis takes again what it had refused: the sweep need not wait for its next time.
    is_taken_again: Notify,
    /// The fast path is to publish the outbox before it goes on.
    wants_catch_up: Arc<AtomicBool>,
}

impl Outbox {
    fn settle(&self, published: Published) {
        if !published.ids.is_empty() && self.settle.try_send(published).is_err() {
            // They stay in the outbox and are published once more, which clients ignore.
            metrics::counter!("settle_queue_overflows_total").increment(1);
        }
    }

    /// Notes that entries were taken by `connection`; when that is not the present one any more, has them published again.
    /// Whoever looked for what the connection took may have looked before they were noted.
    async fn published_by(&self, connection: u64, ids: &[i64]) {
        if self.health.borrow().connection != connection && !ids.is_empty() {
            if let Err(error) = self.store.unsettle_these(ids).await {
                tracing::warn!(%error, "what Redis may have lost is published again later");
            }
            self.wants_catch_up.store(true, Ordering::Release);
        }
    }
}
