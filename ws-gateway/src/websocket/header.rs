//! The header of a client frame, checked before the engine sees the frame.
//!
//! The library parses it. It accepts lengths that RFC 6455 forbids, and judges the other rules only when the whole
//! payload has arrived. A header that breaks a rule is rejected here as soon as it is complete.

use std::io::Cursor;

use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Control, OpCode};

use super::error::ReadError;

/// Longest payload of a control frame (section 5.5).
const MAX_CONTROL_PAYLOAD_BYTES: u64 = 125;

/// A header that breaks no rule.
pub(super) struct CheckedHeader {
    header: FrameHeader,
    header_bytes: usize,
    payload_bytes: usize,
}

impl CheckedHeader {
    /// `None` if the header is incomplete. `limit` applies to the payload.
    ///
    /// # Errors
    /// The frame must not be read.
    pub(super) fn parse(input: &[u8], limit: usize) -> Result<Option<Self>, ReadError> {
        let mut input = Cursor::new(input);
        // The error of an unknown opcode.
        let Some((header, length)) = FrameHeader::parse(&mut input)? else { return Ok(None) };
        // At most 14.
        let header_bytes = input.position() as usize;
        let is_control = matches!(header.opcode, OpCode::Control(_));
        let breaks_rule =
            // No extension is negotiated, and clients mask (sections 5.2 and 5.3).
            header.rsv1 || header.rsv2 || header.rsv3 || header.mask.is_none()
            // The length has its shortest form, and is never negative (section 5.2).
            || header.len(length) != header_bytes || length > i64::MAX as u64
            // Control frames are short and not fragmented (section 5.5).
            || (is_control && (!header.is_final || length > MAX_CONTROL_PAYLOAD_BYTES));
        if breaks_rule {
            return Err(ReadError::Protocol);
        }
        let payload_bytes =
            usize::try_from(length).ok().filter(|length| *length <= limit).ok_or(ReadError::TooLarge)?;
        Ok(Some(Self { header, header_bytes, payload_bytes }))
    }

    /// Of the whole frame.
    pub(super) fn frame_bytes(&self) -> usize {
        self.header_bytes + self.payload_bytes
    }

    pub(super) fn has_payload(&self) -> bool {
        self.payload_bytes > 0
    }

    pub(super) fn is_control(&self) -> bool {
        matches!(self.header.opcode, OpCode::Control(_))
    }

    /// The code in this complete frame, if it is a close frame with a code.
    ///
    /// # Errors
    /// The code must not be sent (section 7.4, and IANA's registry).
    pub(super) fn close_code(&self, frame: &[u8]) -> Result<Option<u16>, ReadError> {
        if self.header.opcode != OpCode::Control(Control::Close) {
            return Ok(None);
        }
        let (Some([high, low]), Some([a, b, ..])) = (frame[self.header_bytes..].first_chunk::<2>(), self.header.mask)
        else {
            return Ok(None);
        };
        let code = u16::from_be_bytes([high ^ a, low ^ b]);
        match CloseCode::from(code).is_allowed() || code == BAD_GATEWAY {
            true => Ok(Some(code)),
            false => Err(ReadError::Protocol),
        }
    }
}

/// A code of IANA's registry that the library does not know.
pub(super) const BAD_GATEWAY: u16 = 1014;
