//! Frames of the gateway: unmasked and unfragmented. The library formats their headers.
//!
//! They are bytes, not messages of the engine: one event is encoded once and written to all sockets. Pongs and close
//! frames depend on the state of a socket, so its engine makes them.

use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// A text frame in a buffer of exactly its size.
pub(crate) fn text_frame(text: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    self::text(&mut frame, text);
    frame
}

/// Appends a text frame.
pub(crate) fn text(out: &mut Vec<u8>, text: &str) {
    frame(out, OpCode::Data(Data::Text), text.as_bytes());
}

/// Appends a Ping of at most 125 bytes.
pub(crate) fn ping(out: &mut Vec<u8>, payload: &[u8]) {
    frame(out, OpCode::Control(Control::Ping), payload);
}

fn frame(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) {
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    let length = payload.len() as u64;
    let bytes = header.len(length) + payload.len();
    // An event has a buffer of its own and no bytes to spare. The output of a thread grows as vectors do.
    if out.is_empty() {
        out.reserve_exact(bytes);
    } else {
        out.reserve(bytes);
    }
    #[expect(clippy::expect_used, reason = "a vector takes every byte")]
    header.format(length, out).expect("a vector takes every byte");
    out.extend_from_slice(payload);
}
