//! WebSocket frames (RFC 6455, section 5.2), as far as a load generator needs them: whole ones from a server, short
//! ones to it. Refuses what no server under measurement sends: masked or fragmented frames.

use anyhow::{Result, ensure};

/// What a frame is.
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xA;

/// A frame of a server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) opcode: u8,
    pub(crate) payload: &'a [u8],
    /// Bytes of the frame with its header.
    pub(crate) length: usize,
}

/// The frame that `bytes` begin with; `None` when it is not all there.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Frame<'_>>> {
    let [first, second, ..] = *bytes else { return Ok(None) };
    ensure!(first & 0xf0 == 0x80, "a fragmented or compressed frame ({first:#x})");
    ensure!(second & 0x80 == 0, "a masked frame from a server");
    let (header, length) = match second {
        126 => match bytes.get(2..4) {
            Some(&[a, b]) => (4, usize::from(u16::from_be_bytes([a, b]))),
            _ => return Ok(None),
        },
        127 => match bytes.get(2..10).and_then(|size| size.try_into().ok()) {
            Some(size) => (10, usize::try_from(u64::from_be_bytes(size))?),
            None => return Ok(None),
        },
        length => (2, usize::from(length)),
    };
    let end = header + length;
    Ok(bytes.get(header..end).map(|payload| Frame { opcode: first & 0x0f, payload, length: end }))
}

/// Appends a frame of a client. Its mask is zero, which is a mask as good as any and changes no byte; `payload` holds 125
/// bytes at most.
pub(crate) fn write(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    let payload = &payload[..payload.len().min(125)];
    out.extend([0x80 | opcode, 0x80 | payload.len() as u8, 0, 0, 0, 0]);
    out.extend(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_parsed_only_when_complete() {
        for length in [0_usize, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; length];
            let mut bytes = vec![0x81];
            match length {
                0..=125 => bytes.push(length as u8),
                126..=65_535 => {
                    bytes.push(126);
                    bytes.extend((length as u16).to_be_bytes());
                }
                _ => {
                    bytes.push(127);
                    bytes.extend((length as u64).to_be_bytes());
                }
            }
            bytes.extend(&payload);
            let length = bytes.len();
            assert_eq!(parse(&bytes[..length - 1]).unwrap(), None);
            bytes.extend(b"next");
            assert_eq!(parse(&bytes).unwrap(), Some(Frame { opcode: TEXT, payload: &payload, length }));
        }
    }

    #[test]
    fn invalid_server_frames_are_rejected() {
        assert!(parse(&[0x01, 0]).is_err(), "a fragment");
        assert!(parse(&[0xc1, 0]).is_err(), "a compressed frame");
        assert!(parse(&[0x81, 0x80]).is_err(), "a masked frame");
    }

    #[test]
    fn client_frame_has_zero_mask() {
        let mut out = Vec::new();
        write(&mut out, PONG, b"7");
        assert_eq!(out, [0x8a, 0x81, 0, 0, 0, 0, b'7']);
    }
}
