//! What handles the entries of one stream, and the delay after it failed.

use std::collections::HashSet;
use std::future::Future;
use std::time::Duration;

use shared::kit::shutdown::Shutdown;
use tokio::time::sleep;

use crate::store::StoreError;

/// Delay after a failure.
pub(super) const RETRY_DELAY: Duration = Duration::from_millis(500);

/// A handler of one stream.
pub(crate) trait StreamHandler: Send + 'static {
    /// Name of the stream.
    const STREAM: &'static str;
    /// The counter of handled entries.
    const HANDLED_METRIC: &'static str;
    /// The counter of dropped entries; each is a defect.
    const DROPPED_METRIC: &'static str;
    /// Attempts for an entry that PostgreSQL rejects; then it is dropped. `None` never drops: the entry is deferred each time.
    const MAX_ATTEMPTS: Option<usize>;
    /// The parsed entry.
    type Entry: Clone + Send + Sync;

    /// Parses an entry.
    fn decode(text: &str) -> Option<Self::Entry>;

    /// Handles entries, all or none. May repeat entries whose outcome was unknown.
    fn handle(&self, entries: &[Self::Entry]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Indexes of entries whose rows other transactions hold, as far as can be determined.
    fn locked(&self, _entries: &[Self::Entry]) -> impl Future<Output = HashSet<usize>> + Send {
        async { HashSet::new() }
    }
}

/// Waits before a retry, unless the shutdown begins.
pub(super) async fn wait_before_retry(shutdown: &Shutdown) {
    tokio::select! {
        () = sleep(RETRY_DELAY) => {}
        () = shutdown.wait_for_begin() => {}
    }
}
