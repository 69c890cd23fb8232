//! The outbox relay: publishes every committed event to Redis, at least once, and in order within a conversation.
//!
//! Every transaction writes an outbox row with its events. Normally events are published from memory (`fast_path`), and the row
//! only guards them. When Redis rejects events or fails, memory is ignored, and the relay publishes the rows, oldest first, until
//! none is left. A sweep finds rows of instances that died.
//!
//! Redis may lose what it accepted, if it fails before replicating. So rows are kept until replication is likely
//! (`confirmation`), and are published again after a connection was lost.
//!
//! A message whose predecessor another instance still has to publish waits for it, but only briefly: that instance may have died.
//!
//! After its events, each batch publishes the changed inbox rows (`inbox_updates`).
//!
//! | module | owns |
//! | --- | --- |
//! | `event_queue` | committed events between transactions and the fast path |
//! | `fast_path` | publishing from memory, and catching up with the outbox after an outage |
//! | `relay` | publishing rows, one relay at a time, and the sweep |
//! | `confirmation` | keeps published rows until replication is likely |
//! | `rejections` | conversations and nodes that Redis rejects at present |
//! | `recovery` | probes whether Redis accepts them again |
//! | `inbox_updates` | publishes inbox rows |
//! | `broker` | commands to Redis |

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

use shared::kit::redis::ConnectionHealth;
use shared::kit::shutdown::Shutdown;
use tokio::sync::{Mutex, Notify, mpsc, watch};
use uuid::Uuid;

use crate::outbox::broker::Broker;
use crate::outbox::event_queue::EventReceiver;
use crate::store::{Store, StoreError};
use confirmation::PublishedBatch;
use fast_path::FastPath;
use rejections::RejectionTracker;

/// Events per pipeline.
const MAX_BATCH_EVENTS: usize = 500;
/// Delay after a failure.
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// Why the relay could not continue.
#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("Redis did not take the events: {0}")]
    Redis(#[from] fred::error::Error),
    #[error("Redis took too long for the events")]
    Timeout,
}

/// Publishes until the queue is closed and empty.
pub async fn run(
    store: Store,
    broker: Broker,
    events: EventReceiver,
    health: watch::Receiver<ConnectionHealth>,
    shutdown: Shutdown,
) {
    let (confirmations, published) = mpsc::channel(confirmation::QUEUE_CAPACITY);
    let connection = health.borrow().generation;
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
    // Holds no `Arc` of the relay: the last of those closes its queue and ends it.
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

/// The state that the tasks of the relay share.
struct OutboxRelay {
    /// Names this instance as the holder of the relay lease.
    instance: Uuid,
    /// The tasks of this instance take turns too.
    relay_turn: Mutex<()>,
    store: Store,
    broker: Broker,
    confirmations: mpsc::Sender<PublishedBatch>,
    health: watch::Receiver<ConnectionHealth>,
    rejections: RejectionTracker,
    /// Redis accepts a rejected target again, so the sweep runs at once.
    resumed: Notify,
    /// Asks the fast path to publish the outbox before it continues.
    catch_up_requested: Arc<AtomicBool>,
}

impl OutboxRelay {
    fn confirm_later(&self, published: PublishedBatch) {
        if !published.ids.is_empty() && self.confirmations.try_send(published).is_err() {
            // The rows stay and are published again, which clients ignore.
            metrics::counter!("ehr_chat_outbox_confirm_overflows_total").increment(1);
        }
    }

    /// Requeues entries if their connection was lost after they were published. The search for rows of the lost connection may
    /// have run before these were marked.
    async fn requeue_if_reconnected(&self, connection: u64, ids: &[i64]) {
        if self.health.borrow().generation != connection && !ids.is_empty() {
            if let Err(error) = self.store.requeue(ids).await {
                tracing::warn!(%error, "requeue failed, events are published again later");
            }
            self.catch_up_requested.store(true, Ordering::Release);
        }
    }
}
