//! WebSocket frames (RFC 6455, section 5) for a server: it writes unmasked and reads masked frames.
//!
//! A library's stream would keep read and write buffers per socket. Here an idle socket has none: complete frames are
//! decoded in place, and a frame is encoded once for all sockets.

mod decode;
mod encode;

pub(crate) use decode::{DecodeError, Decoder, Frame};
pub(crate) use encode::{close, ping, pong, text, text_frame};

/// Opcodes (section 11.8).
mod opcode {
    pub(super) const CONTINUATION: u8 = 0x0;
    pub(super) const TEXT: u8 = 0x1;
    pub(super) const BINARY: u8 = 0x2;
    pub(super) const CLOSE: u8 = 0x8;
    pub(super) const PING: u8 = 0x9;
    pub(super) const PONG: u8 = 0xa;
}

/// The FIN bit of the first byte.
const FINAL: u8 = 0x80;
/// Longest payload of a control frame, and longest length in the second byte.
const SHORT: usize = 125;

#[cfg(test)]
mod tests;
