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

pub mod broker;
pub mod commands;
mod confirmation;
pub mod event_queue;
mod fast_path;
mod inbox_updates;
mod recovery;
mod rejections;
mod relay;
pub(crate) mod settings;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shared::redis::Health;
use shared::shutdown::Shutdown;
use tokio::sync::{Mutex, Notify, mpsc, watch};
use uuid::Uuid;

use crate::outbox::broker::Broker;
use crate::outbox::event_queue::EventReceiver;
use crate::store::{Store, StoreError};
use confirmation::PublishedBatch;
use fast_path::FastPath;
use rejections::RejectionTracker;

/// Events in one pipeline.
const MAX_BATCH_EVENTS: usize = 500;
/// Pause after a failure.
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// Why the relay got no further.
#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("Redis did not take the events: {0}")]
    Redis(#[from] fred::error::Error),
    #[error("Redis took too long for the events")]
    Timeout,
}

/// Publishes until nobody can commit any more: the queue is closed and empty.
pub async fn run(
    store: Store,
    broker: Broker,
    events: EventReceiver,
    health: watch::Receiver<Health>,
    shutdown: Shutdown,
) {
    let (confirmations, published) = mpsc::channel(confirmation::QUEUE_CAPACITY);
    let connection = health.borrow().connection;
    let outbox = Arc::new(OutboxRelay {
        instance: Uuid::now_v7(),
        relay_turn: Mutex::new(()),
        store,
        broker,
        confirmations,
        health,
        rejections: RejectionTracker::default(),
        resumed: Notify::new(),
        catch_up_requested: Arc::default(),
    });
    // Not of the outbox: the last of that ends the queue, and with it this.
    let confirmation = confirmation::Confirmation::new(&outbox);
    shutdown.spawn("outbox confirmation", confirmation.run(published));
    let (inbox_sender, inbox_receiver) = mpsc::channel(inbox_updates::QUEUE_CAPACITY);
    shutdown.spawn("inbox updates", inbox_updates::run(outbox.clone(), inbox_receiver));
    let swept = outbox.clone();
    shutdown.spawn_until("outbox sweep", async move {
        tokio::select! {
            () = swept.sweep() => {}
            () = swept.probe_rejections() => {}
            () = swept.announce_waiting() => {}
        }
    });
    FastPath::new(outbox, inbox_sender, events, connection, shutdown).run().await;
}

/// The outbox, and the way from there to Redis.
struct OutboxRelay {
    /// Under which name this instance takes its turn to relay.
    instance: Uuid,
    /// Its own tasks take turns as well.
    relay_turn: Mutex<()>,
    store: Store,
    broker: Broker,
    confirmations: mpsc::Sender<PublishedBatch>,
    health: watch::Receiver<Health>,
    rejections: RejectionTracker,
    /// Redis takes again what it had refused: the sweep need not wait for its next time.
    resumed: Notify,
    /// The fast path is to publish the outbox before it goes on.
    catch_up_requested: Arc<AtomicBool>,
}

impl OutboxRelay {
    fn confirm_later(&self, published: PublishedBatch) {
        if !published.ids.is_empty() && self.confirmations.try_send(published).is_err() {
            // They stay in the outbox and are published once more, which clients ignore.
            metrics::counter!("settle_queue_overflows_total").increment(1);
        }
    }

    /// Notes that entries were taken by `connection`; when that is not the present one any more, has them published again.
    /// Whoever looked for what the connection took may have looked before they were noted.
    async fn requeue_if_reconnected(&self, connection: u64, ids: &[i64]) {
        if self.health.borrow().connection != connection && !ids.is_empty() {
            if let Err(error) = self.store.requeue(ids).await {
                tracing::warn!(%error, "what Redis may have lost is published again later");
            }
            self.catch_up_requested.store(true, Ordering::Release);
        }
    }
}
