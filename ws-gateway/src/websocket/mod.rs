//! The WebSocket protocol (RFC 6455) of a server's sockets, without buffers of their own.
//!
//! Reading, Pongs and the closing handshake are tungstenite's. Its stream would keep read and write buffers per socket.
//! Here its engine reads from the buffer of the thread, and returns its Pong with the Ping. It exists only while something is unfinished, so
//! an idle socket holds no buffer.
//!
//! [`Engine`] is the protocol state of one socket. `header` checks what the engine does not. `encode` makes the frames
//! of the gateway; an event is encoded once for all sockets.

mod buffer_stream;
mod encode;
mod engine;
mod error;
mod header;

pub(crate) use encode::{ping, text, text_frame};
pub(crate) use engine::{Engine, Frame};
pub(crate) use error::ReadError;

#[cfg(test)]
mod tests;
