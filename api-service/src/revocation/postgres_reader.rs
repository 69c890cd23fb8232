//! Loads the revocations from PostgreSQL, and reads new ones.

use tokio::time::{Instant, timeout};

use super::{POLL_INTERVAL, RevocationService};
use crate::store::{RevocationPage, StoreError};

/// Rows per read.
const PAGE: u32 = 20_000;

impl RevocationService {
    /// Reads new revocations.
    pub(super) async fn refresh(&self) {
        loop {
            match self.read_next_page().await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "revocations not read"),
            }
            // The sooner it is read back, the sooner gateways receive it.
            let _look_or_notice = timeout(POLL_INTERVAL, self.revoked.notified()).await;
        }
    }

    /// Reads the next page. Returns whether there may be more.
    async fn read_next_page(&self) -> Result<bool, StoreError> {
        let (started, behind) = (Instant::now(), self.history.lock().newest());
        let rows = match self.watch_store.revocations(behind, PAGE).await? {
            RevocationPage::Rows(rows) => rows,
            RevocationPage::HistoryChanged => {
                // Known revocations stay in force.
                tracing::warn!("revocation history changed, reading all");
                self.history.lock().reset();
                return Ok(true);
            }
        };
        let count = rows.len();
        // Expiry is decided in `expire`, by the database's clock.
        self.known.add(rows.iter().map(|(_, entry)| entry).cloned());
        let mut history = self.history.lock();
        history.add(rows);
        if count >= PAGE as usize {
            return Ok(true);
        }
        history.mark_complete(started);
        drop(history);
        metrics::gauge!("ehr_chat_revocations").set(self.known.len() as f64);
        if count > 0 || !self.is_loaded() {
            self.changed.notify_one();
        }
        self.loaded.send_replace(true);
        Ok(false)
    }
}
