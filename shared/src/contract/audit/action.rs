//! What was done.

use serde::{Deserialize, Serialize};

use crate::contract::receipt::ReceiptKind;

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// What was done, or tried: the outcome tells which.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Action {
            $($(#[$doc])* #[serde(rename = $text)] $name,)+
        }

        impl Action {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// As the table and the export call it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

actions! {
    /// A message.
    Send = "send",
    /// A page of a conversation.
    HistoryRead = "history.read",
    /// A page of an inbox.
    InboxRead = "inbox.read",
    /// Presence of participants was read.
    PresenceRead = "presence.read",
    /// Messages were read.
    MarkRead = "mark.read",
    /// Messages have arrived.
    MarkDelivered = "mark.delivered",
    /// A ticket for a socket.
    TicketIssue = "ticket.issue",
    /// A socket, or the handshake that wanted one.
    SocketOpen = "socket.open",
    /// The end of a socket; the outcome is its close code.
    SocketClose = "socket.close",
    /// A fresh token on an open socket.
    SocketAuth = "socket.auth",
    /// Tokens were taken back.
    Revoke = "revoke",
    /// The trail was exported.
    Export = "export",
    /// Failed rows of the outbox were listed.
    OutboxList = "outbox.list",
    /// Set-aside rows were scheduled for publication again.
    OutboxRetry = "outbox.retry",
    /// Content keys were rewrapped, rotated, or used to encrypt older rows.
    Keys = "keys",
    /// Another operation of the HTTP interface.
    Request = "request",
    /// Entries that could not be kept; `times` says how many.
    Lost = "lost",
}

impl From<ReceiptKind> for Action {
    fn from(kind: ReceiptKind) -> Self {
        match kind {
            ReceiptKind::Delivered => Self::MarkDelivered,
            ReceiptKind::Read => Self::MarkRead,
        }
    }
}
