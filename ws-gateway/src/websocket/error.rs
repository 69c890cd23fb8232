//! Why a client's input ends its socket.

use tokio_tungstenite::tungstenite::Error;

/// Why a socket cannot be read further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// A violation of RFC 6455.
    Protocol,
    /// A text message or a close reason that is not UTF-8.
    NotUtf8,
    /// A frame or message beyond the limit.
    TooLarge,
}

impl From<Error> for ReadError {
    fn from(error: Error) -> Self {
        match error {
            Error::Utf8(_) => Self::NotUtf8,
            Error::Capacity(_) => Self::TooLarge,
            _ => Self::Protocol,
        }
    }
}
