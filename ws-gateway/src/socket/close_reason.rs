//! Close codes and reasons. A reason is the code of the cause: it is the same text over HTTP, and never quotes the client.

use shared::contract::error_code::{ProblemCode, SocketCode};
use shared::contract::token::TokenError;

/// Why the gateway closes a socket. Codes are those of RFC 6455, section 7.4, and 44xx of this API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum CloseReason {
    /// This gateway shuts down. The client reconnects at once.
    GoingAway,
    /// The peer broke RFC 6455.
    Protocol,
    /// A text message or a close reason was not UTF-8.
    NotUtf8,
    /// The client sends far too many frames (policy violation, RFC 6455, section 7.4.1).
    TooManyFrames,
    /// A frame or message was larger than allowed.
    TooLarge,
    /// The token has expired.
    TokenExpired,
    /// The token was revoked.
    TokenRevoked,
    /// The key of the token was removed.
    TokenKeyRemoved,
    /// The client reads too slowly. It resumes with its cursor.
    TooSlow,
    /// The client is silent. It resumes with its cursor.
    Silent,
    /// The participant has too many sockets.
    TooManySockets,
}

impl CloseReason {
    /// The code in the close frame.
    #[must_use]
    pub(crate) fn code(self) -> u16 {
        match self {
            Self::GoingAway => 1001,
            Self::Protocol => 1002,
            Self::NotUtf8 => 1007,
            Self::TooManyFrames => 1008,
            Self::TooLarge => 1009,
            Self::TokenExpired | Self::TokenRevoked | Self::TokenKeyRemoved => 4401,
            Self::TooSlow | Self::Silent => 4408,
            Self::TooManySockets => 4429,
        }
    }

    /// The close code as a metric label.
    #[must_use]
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::GoingAway => "1001",
            Self::Protocol => "1002",
            Self::NotUtf8 => "1007",
            Self::TooManyFrames => "1008",
            Self::TooLarge => "1009",
            Self::TokenExpired | Self::TokenRevoked | Self::TokenKeyRemoved => "4401",
            Self::TooSlow | Self::Silent => "4408",
            Self::TooManySockets => "4429",
        }
    }

    /// The reason in the close frame: the code of the cause.
    #[must_use]
    pub(crate) fn reason(self) -> SocketCode {
        match self {
            Self::GoingAway => ProblemCode::ShuttingDown.into(),
            Self::Protocol => SocketCode::ProtocolError,
            Self::NotUtf8 => SocketCode::InvalidUtf8,
            Self::TooManyFrames => ProblemCode::RateLimited.into(),
            Self::TooLarge => SocketCode::FrameTooLarge,
            Self::TokenExpired => ProblemCode::TokenExpired.into(),
            Self::TokenRevoked => ProblemCode::TokenRevoked.into(),
            Self::TokenKeyRemoved => ProblemCode::TokenKeyUnknown.into(),
            Self::TooSlow => SocketCode::ClientTooSlow,
            Self::Silent => SocketCode::ClientSilent,
            Self::TooManySockets => SocketCode::TooManySockets,
        }
    }

    /// Whether the token has ended.
    #[must_use]
    pub(crate) fn is_end_of_token(self) -> bool {
        matches!(self, Self::TokenExpired | Self::TokenRevoked | Self::TokenKeyRemoved)
    }
}

/// Of a token that was good before.
impl From<&TokenError> for CloseReason {
    fn from(error: &TokenError) -> Self {
        match error {
            TokenError::Expired => Self::TokenExpired,
            TokenError::UnknownKey => Self::TokenKeyRemoved,
            _ => Self::TokenRevoked,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

    const ALL: [CloseReason; 11] = [
        CloseReason::GoingAway,
        CloseReason::Protocol,
        CloseReason::NotUtf8,
        CloseReason::TooManyFrames,
        CloseReason::TooLarge,
        CloseReason::TokenExpired,
        CloseReason::TokenRevoked,
        CloseReason::TokenKeyRemoved,
        CloseReason::TooSlow,
        CloseReason::Silent,
        CloseReason::TooManySockets,
    ];

    #[test]
    fn every_reason_fits_a_close_frame() {
        for close in ALL {
            // RFC 6455, section 5.5.
            assert!(close.reason().as_str().len() <= 123, "{close:?}");
            assert!(CloseCode::from(close.code()).is_allowed(), "{close:?}");
            assert_eq!(close.label(), close.code().to_string(), "{close:?}");
        }
    }

    #[test]
    fn each_reason_has_its_own_code() {
        let reasons: HashSet<_> = ALL.iter().map(|close| close.reason().as_str()).collect();
        assert_eq!(reasons.len(), ALL.len());
    }

    #[test]
    fn document_lists_close_codes_and_reasons() {
        let document = include_str!("../../../docs/api/websocket.md");
        let (_, table) = document.split_once("## Close codes").unwrap();
        for close in ALL {
            let row = format!("| {} | `{}` | ", close.code(), close.reason().as_str());
            assert!(table.contains(&row), "{row}");
        }
        assert_eq!(table.lines().filter(|line| line.starts_with("| 1") || line.starts_with("| 4")).count(), ALL.len());
    }
}
