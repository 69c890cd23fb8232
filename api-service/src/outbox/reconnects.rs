//! What follows when the connection that accepted events is lost before their rows are marked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use shared::kit::redis::ConnectionHealth;
use tokio::sync::watch;

use crate::store::Store;

/// Requeues rows of lost connections. Clones share the request to catch up.
#[derive(Clone)]
pub(super) struct Reconnects {
    store: Store,
    health: watch::Receiver<ConnectionHealth>,
    catch_up_requested: Arc<AtomicBool>,
}

impl Reconnects {
    pub(super) fn new(store: Store, health: watch::Receiver<ConnectionHealth>) -> Self {
        Self { store, health, catch_up_requested: Arc::default() }
    }

    /// Asks the fast path to publish the outbox before it continues.
    pub(super) fn request_catch_up(&self) {
        self.catch_up_requested.store(true, Ordering::Release);
    }

    /// Whether a catch-up was requested since the last call.
    pub(super) fn take_catch_up_request(&self) -> bool {
        self.catch_up_requested.swap(false, Ordering::AcqRel)
    }

    /// Requeues rows whose connection was lost after they were published. The search for rows of the lost connection may have run
    /// before these were marked.
    pub(super) async fn requeue_if_lost(&self, generation: u64, ids: &[i64]) {
        if self.health.borrow().generation != generation && !ids.is_empty() {
            if let Err(error) = self.store.requeue(ids).await {
                tracing::warn!(%error, "requeue failed, events are published again later");
            }
            self.request_catch_up();
        }
    }
}
