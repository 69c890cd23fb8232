//! Encodes server frames: unmasked and unfragmented.

use super::{FINAL, SHORT, opcode};

/// Longest header.
const HEAD_BYTES: usize = 10;

/// A text frame in a buffer of exactly its size.
pub(crate) fn text_frame(text: &str) -> Vec<u8> {
    let mut frame = Vec::with_capacity(head(opcode::TEXT, text.len()).1 + text.len());
    self::text(&mut frame, text);
    frame
}

/// Appends a text frame.
pub(crate) fn text(out: &mut Vec<u8>, text: &str) {
    frame(out, opcode::TEXT, text.as_bytes());
}

/// Appends a Ping of at most 125 bytes.
pub(crate) fn ping(out: &mut Vec<u8>, payload: &[u8]) {
    frame(out, opcode::PING, payload);
}

/// Appends a Pong; its payload is that of a Ping.
pub(crate) fn pong(out: &mut Vec<u8>, payload: &[u8]) {
    frame(out, opcode::PONG, payload);
}

/// Appends a close frame; the reason has at most 123 bytes.
pub(crate) fn close(out: &mut Vec<u8>, code: Option<u16>, reason: &str) {
    let code = code.map(u16::to_be_bytes);
    let (code, reason) = (code.as_ref().map_or(&[][..], |code| code), if code.is_some() { reason } else { "" });
    let (head, length) = head(opcode::CLOSE, code.len() + reason.len());
    out.extend_from_slice(&head[..length]);
    out.extend_from_slice(code);
    out.extend_from_slice(reason.as_bytes());
}

fn frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    let (head, length) = head(opcode, payload.len());
    out.reserve(length + payload.len());
    out.extend_from_slice(&head[..length]);
    out.extend_from_slice(payload);
}

fn head(opcode: u8, length: usize) -> ([u8; HEAD_BYTES], usize) {
    let mut head = [0; HEAD_BYTES];
    head[0] = FINAL | opcode;
    let used = match u16::try_from(length) {
        Ok(short) if length <= SHORT => {
            head[1] = short.to_be_bytes()[1];
            2
        }
        Ok(medium) => {
            head[1] = 126;
            head[2..4].copy_from_slice(&medium.to_be_bytes());
            4
        }
        Err(_) => {
            head[1] = 127;
            head[2..].copy_from_slice(&(length as u64).to_be_bytes());
            10
        }
    };
    (head, used)
}
