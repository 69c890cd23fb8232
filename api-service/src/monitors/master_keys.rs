//! Announces which master keys this instance holds, so that no operator removes one that is in use. Also notices when all content is
//! encrypted.

use std::time::Duration;

use shared::kit::shutdown::Shutdown;
use tokio::time::sleep;
use uuid::Uuid;

use crate::store::Store;

/// Between two announcements.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(10);

/// Runs until the shutdown, which withdraws the announcement.
pub async fn announce(store: Store, instance: Uuid, shutdown: Shutdown) {
    let mut was_complete = false;
    while !shutdown.has_begun() {
        if let Err(error) = store.register(instance).await {
            tracing::debug!(%error, "master keys not announced");
        }
        match store.refresh_encryption_state().await {
            Ok(is_complete) => {
                if is_complete && !was_complete {
                    tracing::info!("all content encrypted, plain text rejected");
                }
                was_complete = is_complete;
            }
            Err(error) => tracing::debug!(%error, "encryption state not read"),
        }
        tokio::select! {
            () = sleep(ANNOUNCE_INTERVAL) => {}
            () = shutdown.wait_for_begin() => {}
        }
    }
    if let Err(error) = store.deregister(instance).await {
        tracing::debug!(%error, "announcement of master keys not removed");
    }
}
