//! WebSocket frames as bytes (RFC 6455, section 5), as a server needs them: written unmasked, read masked.
//!
//! Of its own, because a library's reader and writer keep their buffers for as long as a socket lives. Here a socket that is
//! idle has none: whole frames are read where they lie, and a frame is encoded once for all sockets that get it.

mod decode;
mod encode;

pub(crate) use decode::{DecodeError, Decoder, Frame};
pub(crate) use encode::{close, ping, pong, text, text_frame};

/// Kinds of frames (section 11.8).
mod opcode {
    pub(super) const CONTINUATION: u8 = 0x0;
    pub(super) const TEXT: u8 = 0x1;
    pub(super) const BINARY: u8 = 0x2;
    pub(super) const CLOSE: u8 = 0x8;
    pub(super) const PING: u8 = 0x9;
    pub(super) const PONG: u8 = 0xa;
}

/// Set in the first byte of a frame that ends a message.
const FINAL: u8 = 0x80;
/// Longest payload of a control frame, and longest length that the second byte holds.
const SHORT: usize = 125;

#[cfg(test)]
mod tests;
