//! A handle to a connection, which lets other code abort it when its client does not read.

use tokio_util::sync::CancellationToken;

/// The handle. Clones refer to the same connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connection(CancellationToken);

impl Connection {
    /// Closes the connection at once and discards unsent bytes.
    pub(crate) fn abort(&self) {
        self.0.cancel();
    }

    /// Waits until the connection is aborted.
    pub(crate) async fn aborted(&self) {
        self.0.cancelled().await;
    }

    /// Whether it was aborted.
    #[cfg(test)]
    pub(crate) fn is_aborted(&self) -> bool {
        self.0.is_cancelled()
    }
}
