//! A connection to the public port, as those see it who answer a request that came over it: they can cut it. Its answer may be one that
//! its client does not read, and that others need the room of.

use tokio_util::sync::CancellationToken;

/// A connection. Clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connection(CancellationToken);

impl Connection {
    /// Ends it at once, with whatever is on its way.
    pub(crate) fn abort(&self) {
        self.0.cancel();
    }

    /// Waits until somebody cuts it.
    pub(crate) async fn aborted(&self) {
        self.0.cancelled().await;
    }

    /// Whether somebody has.
    #[cfg(test)]
    pub(crate) fn is_aborted(&self) -> bool {
        self.0.is_cancelled()
    }
}
