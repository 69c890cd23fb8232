//! An event as the WebSocket frame that every socket of its room sends.

use std::sync::Arc;

use shared::contract::event::{Cursor, Event, Header};
use shared::kit::crypto::redacted::Redacted;

use crate::websocket;

/// An event, encoded once and shared by all sockets of a conversation.
#[derive(Debug)]
pub(crate) struct EncodedEvent {
    /// Cursor, recipient and kind of the event.
    pub(crate) header: Header,
    /// The WebSocket frame.
    frame: Redacted<Box<[u8]>>,
}

impl EncodedEvent {
    /// Encodes an event. The bytes are copied, because the source buffer may be much larger and must not live as long
    /// as the slowest socket.
    #[must_use]
    pub(crate) fn new(event: Event<'_>) -> Arc<Self> {
        Arc::new(Self { header: event.header, frame: Redacted::new(websocket::text_frame(&event.frame).into()) })
    }

    /// Its position in the log, if it has one.
    #[must_use]
    pub(crate) fn cursor(&self) -> Option<Cursor> {
        match self.header {
            Header::Logged { cursor, .. } => Some(cursor),
            Header::Ephemeral { .. } | Header::PublishStatus { .. } | Header::InboxRow { .. } => None,
        }
    }

    /// The WebSocket frame.
    #[must_use]
    pub(crate) fn frame(&self) -> &[u8] {
        self.frame.expose()
    }
}
