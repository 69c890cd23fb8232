//! Reads what a client sends, however it is cut into pieces. Holds nothing between whole messages.
//!
//! Bounded: no frame and no message grows past the limit, and one that would is refused by its head, before its bytes are
//! kept.

use std::mem::take;

use super::{FINAL, SHORT, opcode};

/// What a client has sent: a whole message, a control frame, or a fragment. Each frame is handed on once. It may be a token: there is no `Debug`.
#[derive(PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    Text(&'a str),
    Binary,
    Ping(&'a [u8]),
    Pong(&'a [u8]),
    /// Part of a message of which more will come, and whether it holds nothing.
    Fragment {
        is_empty: bool,
    },
    /// With its code, if it names one.
    Close(Option<u16>),
}

/// Why nothing more can be read from a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// It broke RFC 6455.
    Protocol,
    /// Text that is none.
    NotUtf8,
    /// A frame or a message past the limit.
    TooLarge,
}

/// The reading end of one socket. What it keeps may be a token: there is no `Debug`.
#[derive(Default)]
pub(crate) struct Decoder {
    /// The beginning of a frame whose end has not come.
    pub(super) partial: Vec<u8>,
    /// The beginning of a message whose end has not come. Boxed: hardly any client ever sends one.
    pub(super) message: Option<Box<Message>>,
}

pub(super) struct Message {
    is_text: bool,
    bytes: Vec<u8>,
    /// Of these, as far as they are whole characters.
    text_bytes: usize,
}

impl Message {
    fn begin(is_text: bool, payload: &[u8]) -> Result<Self, DecodeError> {
        let mut message = Self { is_text, bytes: Vec::new(), text_bytes: 0 };
        message.append(payload)?;
        Ok(message)
    }

    /// Text is refused by its first byte that cannot be text, not only once all of it has come.
    fn append(&mut self, payload: &[u8]) -> Result<(), DecodeError> {
        self.bytes.extend_from_slice(payload);
        if self.is_text {
            self.text_bytes += match std::str::from_utf8(&self.bytes[self.text_bytes..]) {
                Ok(text) => text.len(),
                // The rest of a character may come with the next fragment.
                Err(end) if end.error_len().is_none() => end.valid_up_to(),
                Err(_) => return Err(DecodeError::NotUtf8),
            };
        }
        Ok(())
    }
}

/// The head of a frame.
struct FrameHeader {
    is_final: bool,
    opcode: u8,
    mask: [u8; 4],
    /// Of the head itself.
    bytes: usize,
    payload_bytes: usize,
}

impl Decoder {
    /// A reader that has these bytes already: with the first reading they are read.
    pub(crate) fn after(bytes: &[u8]) -> Self {
        Self { partial: bytes.to_vec(), message: None }
    }

    /// Reads `input`, which it unmasks where it lies, and hands on what is whole. `limit`: of a frame and of a message.
    ///
    /// # Errors
    /// [`DecodeError`], and whatever `take` returns. Then nothing more can be read.
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
            // In place unless a large frame has just ended: what it needed is given back.
            self.partial = if used == 0 { gathered } else { gathered[used..].to_vec() };
        }
        Ok(())
    }

    /// Returns how many bytes of the input make whole frames.
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
            // A message within a message, or the rest of none.
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

/// Section 7.1.5. Which codes may be sent: section 7.4, and IANA's registry for those that were added since (1012 to 1014).
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
    /// `None` when it has not come in full.
    fn read(input: &[u8], limit: usize) -> Result<Option<Self>, DecodeError> {
        let [first, second, rest @ ..] = input else { return Ok(None) };
        let opcode = first & 0x0f;
        let is_control = opcode >= opcode::CLOSE;
        let is_final = first & FINAL != 0;
        let short = usize::from(second & 0x7f);
        let known = opcode <= opcode::BINARY || (opcode::CLOSE..=opcode::PONG).contains(&opcode);
        // No extension was agreed on, so its bits are not set; clients mask; control frames are short and whole.
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
        // In as few bytes as will do, and never negative (section 5.2).
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
