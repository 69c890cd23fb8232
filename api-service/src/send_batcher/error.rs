//! Why a send has no outcome.

use crate::store::StoreError;

/// Why a send was not written, or perhaps not.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The queue, or the share of this location or conversation, is full.
    #[error("too many sends are waiting")]
    Overloaded,
    /// Its transaction did not start in time.
    #[error("the send has waited for too long")]
    TimedOut,
    /// The database rejected it, or its outcome is unknown.
    #[error(transparent)]
    Store(#[from] StoreError),
}
