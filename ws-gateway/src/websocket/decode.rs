//! Decodes client frames, however the input is split. Between complete messages it keeps nothing.
//!
//! Frames and messages are bounded: one that is too long is rejected by its header, before its payload is kept.

use std::mem::take;

use super::{FINAL, SHORT, opcode};

/// A complete message, a control frame or a fragment. It may contain a token, so it has no `Debug`.
#[derive(PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    Text(&'a str),
    Binary,
    Ping(&'a [u8]),
    Pong(&'a [u8]),
    /// A part of a message that continues, and whether it is empty.
    Fragment {
        is_empty: bool,
    },
    /// With its code, if there is one.
    Close(Option<u16>),
}

/// Why the input cannot be decoded further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// A violation of RFC 6455.
    Protocol,
    /// A text message that is not UTF-8.
    NotUtf8,
    /// A frame or message beyond the limit.
    TooLarge,
}

/// The decoder of one socket. It may hold a token, so it has no `Debug`.
#[derive(Default)]
pub(crate) struct Decoder {
    /// An incomplete frame.
    pub(super) partial: Vec<u8>,
    /// An incomplete message. Boxed, because clients rarely send fragments.
    pub(super) message: Option<Box<Message>>,
}

pub(super) struct Message {
    is_text: bool,
    bytes: Vec<u8>,
    /// The prefix that is known to be complete UTF-8.
    text_bytes: usize,
}

impl Message {
    fn begin(is_text: bool, payload: &[u8]) -> Result<Self, DecodeError> {
        let mut message = Self { is_text, bytes: Vec::new(), text_bytes: 0 };
        message.append(payload)?;
        Ok(message)
    }

    /// Text is rejected at its first invalid byte, before it is complete.
    fn append(&mut self, payload: &[u8]) -> Result<(), DecodeError> {
        self.bytes.extend_from_slice(payload);
        if self.is_text {
            self.text_bytes += match std::str::from_utf8(&self.bytes[self.text_bytes..]) {
                Ok(text) => text.len(),
                // The next fragment may complete the character.
                Err(end) if end.error_len().is_none() => end.valid_up_to(),
                Err(_) => return Err(DecodeError::NotUtf8),
            };
        }
        Ok(())
    }
}

struct FrameHeader {
    is_final: bool,
    opcode: u8,
    mask: [u8; 4],
    /// Of the header itself.
    bytes: usize,
    payload_bytes: usize,
}

impl Decoder {
    /// A decoder that already has these bytes. The first `read` decodes them.
    pub(crate) fn after(bytes: &[u8]) -> Self {
        Self { partial: bytes.to_vec(), message: None }
    }

    /// Unmasks `input` in place, and passes complete frames to `take_frame`. `limit` applies to frames and messages.
    ///
    /// # Errors
    /// [`DecodeError`], or an error of `take_frame`. The decoder must not be used afterwards.
    pub(crate) fn read<E: From<DecodeError>>(
        &mut self,
        input: &mut [u8],
        limit: usize,
        take_frame: impl FnMut(Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.partial.is_empty() {
            let used = self.frames(input, limit, take_frame)?;
            self.partial.extend_from_slice(&input[used..]);
            return Ok(());
        }
        let mut gathered = take(&mut self.partial);
        gathered.extend_from_slice(input);
        let used = self.frames(&mut gathered, limit, take_frame)?;
        if used < gathered.len() {
            // Keeps the allocation, unless a large frame has just ended.
            self.partial = if used == 0 { gathered } else { gathered[used..].to_vec() };
        }
        Ok(())
    }

    /// Returns how many bytes of the input are complete frames.
    fn frames<E: From<DecodeError>>(
        &mut self,
        input: &mut [u8],
        limit: usize,
        mut take_frame: impl FnMut(Frame<'_>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let mut used = 0;
        while let Some(header) = FrameHeader::read(&input[used..], limit)? {
            let Some(frame) = input[used..].get_mut(..header.bytes + header.payload_bytes) else { break };
            used += frame.len();
            let payload = &mut frame[header.bytes..];
            unmask(payload, header.mask);
            self.frame(&header, payload, limit, &mut take_frame)?;
        }
        Ok(used)
    }

    fn frame<E: From<DecodeError>>(
        &mut self,
        header: &FrameHeader,
        payload: &[u8],
        limit: usize,
        take_frame: &mut impl FnMut(Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        match header.opcode {
            opcode::PING => return take_frame(Frame::Ping(payload)),
            opcode::PONG => return take_frame(Frame::Pong(payload)),
            opcode::CLOSE => return take_frame(Frame::Close(close_code(payload)?)),
            _ => {}
        }
        let begins = header.opcode != opcode::CONTINUATION;
        match (begins, &mut self.message) {
            (true, None) if header.is_final => take_frame(complete(header.opcode == opcode::TEXT, payload)?),
            (true, none @ None) => {
                *none = Some(Box::new(Message::begin(header.opcode == opcode::TEXT, payload)?));
                take_frame(Frame::Fragment { is_empty: payload.is_empty() })
            }
            (false, Some(message)) => {
                if message.bytes.len() + payload.len() > limit {
                    return Err(DecodeError::TooLarge.into());
                }
                message.append(payload)?;
                match self.message.take_if(|_| header.is_final) {
                    Some(message) => take_frame(complete(message.is_text, &message.bytes)?),
                    None => take_frame(Frame::Fragment { is_empty: payload.is_empty() }),
                }
            }
            // A message inside another, or a continuation of none.
            (true, Some(_)) | (false, None) => Err(DecodeError::Protocol.into()),
        }
    }
}

fn complete(is_text: bool, bytes: &[u8]) -> Result<Frame<'_>, DecodeError> {
    match is_text {
        true => std::str::from_utf8(bytes).map(Frame::Text).map_err(|_| DecodeError::NotUtf8),
        false => Ok(Frame::Binary),
    }
}

/// Section 7.1.5. Valid codes are in section 7.4 and in IANA's registry (1012 to 1014).
fn close_code(payload: &[u8]) -> Result<Option<u16>, DecodeError> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        [_] => return Err(DecodeError::Protocol),
    };
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(DecodeError::Protocol);
    }
    std::str::from_utf8(reason).map_err(|_| DecodeError::NotUtf8)?;
    Ok(Some(code))
}

impl FrameHeader {
    /// `None` if the header is incomplete.
    fn read(input: &[u8], limit: usize) -> Result<Option<Self>, DecodeError> {
        let [first, second, rest @ ..] = input else { return Ok(None) };
        let opcode = first & 0x0f;
        let is_control = opcode >= opcode::CLOSE;
        let is_final = first & FINAL != 0;
        let short = usize::from(second & 0x7f);
        let known = opcode <= opcode::BINARY || (opcode::CLOSE..=opcode::PONG).contains(&opcode);
        // No extension is negotiated, so reserved bits are zero. Clients mask. Control frames are short and not
        // fragmented.
        if first & 0x70 != 0 || second & 0x80 == 0 || !known || (is_control && (!is_final || short > SHORT)) {
            return Err(DecodeError::Protocol);
        }
        let (length, least, rest) = match short {
            126 => match rest.split_first_chunk::<2>() {
                Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), SHORT as u64 + 1, rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk::<8>() {
                Some((length, rest)) => (u64::from_be_bytes(*length), 1 << 16, rest),
                None => return Ok(None),
            },
            short => (short as u64, 0, rest),
        };
        // The shortest form, and never negative (section 5.2).
        if length < least || length > i64::MAX as u64 {
            return Err(DecodeError::Protocol);
        }
        let payload_bytes =
            usize::try_from(length).ok().filter(|length| *length <= limit).ok_or(DecodeError::TooLarge)?;
        let Some((mask, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        Ok(Some(Self { is_final, opcode, mask: *mask, bytes: input.len() - rest.len(), payload_bytes }))
    }
}

/// Section 5.3, eight bytes at a time.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= mask;
    }
}
