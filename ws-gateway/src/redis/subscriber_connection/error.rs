//! Why a subscriber connection failed.

use std::io;

use crate::redis::resp::InvalidResp;

/// Why a connection failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The debug form contains the reason, as in the client library.
    #[error("tls: {0:?}")]
    Tls(io::Error),
    #[error(transparent)]
    InvalidResp(#[from] InvalidResp),
    #[error("redis: {0}")]
    Rejected(String),
    #[error("redis closed the connection")]
    Closed,
    #[error("redis did not reply in time")]
    Timeout,
    #[error("unexpected reply from redis")]
    UnexpectedReply,
}
