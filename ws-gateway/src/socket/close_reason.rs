//! Close codes and reasons. No reason quotes the client.

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
    /// The token has expired, or was revoked.
    TokenInvalid,
    /// The client reads too slowly or is idle. It resumes with its cursor.
    TooSlow,
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
            Self::TokenInvalid => 4401,
            Self::TooSlow => 4408,
            Self::TooManySockets => 4429,
        }
    }

    /// The reason in the close frame, at most 123 bytes (RFC 6455, section 5.5).
    #[must_use]
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::GoingAway => "the gateway is going away: reconnect now",
            Self::Protocol => "a frame broke the WebSocket protocol",
            Self::NotUtf8 => "a text frame was not UTF-8",
            Self::TooManyFrames => "too many frames",
            Self::TooLarge => "a frame was too large",
            Self::TokenInvalid => "the token has expired or was revoked",
            Self::TooSlow => "too slow: reconnect with the last cursor",
            Self::TooManySockets => "too many sockets",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

    const ALL: [CloseReason; 8] = [
        CloseReason::GoingAway,
        CloseReason::Protocol,
        CloseReason::NotUtf8,
        CloseReason::TooManyFrames,
        CloseReason::TooLarge,
        CloseReason::TokenInvalid,
        CloseReason::TooSlow,
        CloseReason::TooManySockets,
    ];

    #[test]
    fn every_reason_fits_a_close_frame() {
        for close in ALL {
            assert!(close.reason().len() <= 123, "{close:?}");
            assert!(CloseCode::from(close.code()).is_allowed(), "{close:?}");
        }
    }

    #[test]
    fn close_codes_are_unique() {
        let codes: std::collections::HashSet<_> = ALL.iter().map(|close| close.code()).collect();
        assert_eq!(codes.len(), ALL.len());
    }
}
