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
//! Two bounded queues connect the tasks: `event_queue` holds committed events for the fast path, and the queue of `confirmation`
//! holds published batches.
//!
//! | module | owns |
//! | --- | --- |
//! | `event_queue` | committed events between transactions and the fast path |
//! | `fast_path` | publishing from memory, and catching up with the outbox after an outage |
//! | `relay` | publishing rows, one relay at a time, and the sweep |
//! | `confirmation` | what follows a publication: inbox rows, then the row is kept until replication is likely |
//! | `reconnects` | requeues rows whose connection was lost before they were marked |
//! | `rejections` | conversations and nodes that Redis rejects at present |
//! | `recovery` | probes whether Redis accepts them again |
//! | `inbox_updates` | which inbox rows a batch publishes |
//! | `broker` | commands to Redis |

pub mod broker;
mod confirmation;
pub mod event_queue;
mod fast_path;
mod inbox_updates;
mod reconnects;
mod recovery;
mod rejections;
mod relay;
pub(crate) mod settings;

use std::sync::Arc;

use shared::kit::redis::ConnectionHealth;
use shared::kit::shutdown::Shutdown;
use tokio::sync::watch;

use crate::outbox::broker::Broker;
use crate::outbox::event_queue::EventReceiver;
use crate::store::Store;
use confirmation::Confirmation;
use fast_path::FastPath;
use relay::OutboxRelay;

/// Publishes until the queue is closed and empty.
pub async fn run(
    store: Store,
    broker: Broker,
    events: EventReceiver,
    health: watch::Receiver<ConnectionHealth>,
    shutdown: Shutdown,
) {
    let (published, batches) = confirmation::queue();
    let connection = health.borrow().generation;
    let outbox = Arc::new(OutboxRelay::new(store, broker, published, health));
    // Holds no `Arc` of the relay: the last of those closes its queue and ends it.
    let confirmation = Confirmation {
        store: outbox.store.clone(),
        inbox_updates: outbox.inbox_updates.clone(),
        health: outbox.health.clone(),
        reconnects: outbox.reconnects.clone(),
    };
    shutdown.spawn("outbox confirmation", confirmation.run(batches));
    let swept = outbox.clone();
    shutdown.spawn_until("outbox sweep", async move {
        tokio::select! {
            () = swept.sweep() => {}
            () = swept.probe_rejections() => {}
            () = swept.announce_waiting() => {}
        }
    });
    FastPath::new(outbox, events, connection, shutdown).run().await;
}
