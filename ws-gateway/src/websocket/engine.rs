//! The protocol state of one socket: tungstenite's engine, fed with one frame at a time.
//!
//! The engine unmasks, joins fragments, checks UTF-8 and sizes, answers Pings and does the closing handshake. It does
//! not report fragments, and it can hold more than an idle socket may. So this module walks over the headers:
//!
//! - Every frame is reported, so that the frame limit counts it (ADR 0027).
//! - The engine sees only headers that are complete and allowed, and control frames as a whole.
//! - Between messages nothing is unfinished. The engine is then dropped, with the buffers of the last message.
//!
//! Bound: a frame and a message, each of at most the limit of `read`. Their buffers grow by doubling, so twice as much
//! may be allocated for each.

use std::io::ErrorKind;
use std::mem::take;

use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Utf8Bytes};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::buffer_stream::BufferStream;
use super::error::ReadError;
use super::header::{BAD_GATEWAY, CheckedHeader};

/// Of the engine's first buffer. Most client frames are shorter; for others it grows.
const READ_BUFFER_BYTES: usize = 128;
/// The engine writes a Pong or a close frame, each of at most 127 bytes, and each is taken at once.
const MAX_WRITE_BUFFER_BYTES: usize = 256;

/// A complete message, a control frame or a fragment. It may contain a token, so it has no `Debug`.
#[derive(PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    Text(&'a str),
    Binary,
    /// With the Pong that answers it, encoded.
    Ping {
        pong: &'a [u8],
    },
    Pong(&'a [u8]),
    /// A part of a message that continues, and whether it is empty.
    Fragment {
        is_empty: bool,
    },
    /// With its code, if there is one.
    Close(Option<u16>),
}

/// The engine of one socket, while something is unfinished. It may hold a token, so it has no `Debug`.
#[derive(Default)]
pub(crate) struct Engine(Option<Box<State>>);

struct State {
    context: WebSocketContext,
    /// What the engine has not seen: the start of a header or of a control frame. After an error of the caller, the rest
    /// of the input.
    held: Vec<u8>,
    /// Bytes of the current frame that are still to come.
    frame_rest: usize,
    has_payload: bool,
    /// Whether a message continues in another frame.
    is_in_message: bool,
}

impl Engine {
    /// Passes the frames that `input` completes to `take_frame`. `limit` applies to frames and messages.
    ///
    /// # Errors
    /// [`ReadError`]: only [`Self::close`] may follow. Or an error of `take_frame`: the next read goes on with the frame behind.
    pub(crate) fn read<E: From<ReadError>>(
        &mut self,
        input: &[u8],
        limit: usize,
        take_frame: impl FnMut(Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let state = self.0.get_or_insert_with(|| Box::new(State::new(limit)));
        state.read(input, limit, take_frame)?;
        if state.is_idle() {
            self.0 = None;
        }
        Ok(())
    }

    /// Appends our close frame, or the reply to the client's. From here on no Ping is answered. The reason has at most
    /// 123 bytes.
    pub(crate) fn close(&mut self, code: Option<u16>, reason: &'static str, limit: usize, out: &mut Vec<u8>) {
        let State { context, .. } = &mut **self.0.get_or_insert_with(|| Box::new(State::new(limit)));
        let close = code.map(|code| CloseFrame { code: code.into(), reason: Utf8Bytes::from_static(reason) });
        // After the reply to the client's close frame it reports `ConnectionClosed`. Nothing else can fail.
        let _closed = context.close(&mut BufferStream { input: &[], output: out }, close);
    }

    #[cfg(test)]
    pub(super) fn holds_nothing(&self) -> bool {
        self.0.is_none()
    }
}

impl State {
    fn new(limit: usize) -> Self {
        Self { context: context(limit), held: Vec::new(), frame_rest: 0, has_payload: false, is_in_message: false }
    }

    /// Whether a new state would be equal.
    fn is_idle(&self) -> bool {
        self.held.is_empty() && self.frame_rest == 0 && !self.is_in_message && self.context.can_write()
    }

    fn read<E: From<ReadError>>(
        &mut self,
        input: &[u8],
        limit: usize,
        mut take_frame: impl FnMut(Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut joined = take(&mut self.held);
        let mut rest = match joined.is_empty() {
            true => input,
            false => {
                joined.extend_from_slice(input);
                &joined
            }
        };
        while !rest.is_empty() {
            let mut close_code = None;
            if self.frame_rest == 0 {
                let Some(header) = CheckedHeader::parse(rest, limit)? else { break };
                if header.is_control() {
                    let Some(frame) = rest.get(..header.frame_bytes()) else { break };
                    close_code = header.close_code(frame)?;
                }
                self.frame_rest = header.frame_bytes();
                self.has_payload = header.has_payload();
            }
            let (piece, behind) = rest.split_at(self.frame_rest.min(rest.len()));
            rest = behind;
            self.frame_rest -= piece.len();
            if let Err(error) = self.read_piece(piece, close_code, limit, &mut take_frame) {
                self.held.extend_from_slice(rest);
                return Err(error);
            }
        }
        // At most a control frame but its last byte.
        self.held.extend_from_slice(rest);
        Ok(())
    }

    /// Reads a frame to its end, or a part of it.
    fn read_piece<E: From<ReadError>>(
        &mut self,
        piece: &[u8],
        close_code: Option<u16>,
        limit: usize,
        take_frame: &mut impl FnMut(Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut pong = Vec::new();
        let mut stream = BufferStream { input: piece, output: &mut pong };
        match self.context.read(&mut stream) {
            Ok(Message::Text(text)) => {
                self.is_in_message = false;
                take_frame(Frame::Text(&text))
            }
            Ok(Message::Binary(_)) => {
                self.is_in_message = false;
                take_frame(Frame::Binary)
            }
            Ok(Message::Ping(_)) => {
                // Now, so that nothing precedes it and no close frame can overtake it.
                self.context.flush(&mut stream).map_err(ReadError::from)?;
                take_frame(Frame::Ping { pong: &pong })
            }
            Ok(Message::Pong(payload)) => take_frame(Frame::Pong(&payload)),
            Ok(Message::Close(_)) => {
                if close_code == Some(BAD_GATEWAY) {
                    // The engine would reply 1002. A new one replies what `close` says.
                    self.context = context(limit);
                }
                take_frame(Frame::Close(close_code))
            }
            // The engine gives messages only.
            Ok(Message::Frame(_)) => Ok(()),
            // It waits for the rest of the frame, or for the rest of the message.
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                if self.frame_rest > 0 {
                    return Ok(());
                }
                self.is_in_message = true;
                take_frame(Frame::Fragment { is_empty: !self.has_payload })
            }
            Err(error) => Err(ReadError::from(error).into()),
        }
    }
}

fn context(limit: usize) -> WebSocketContext {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES)
        .max_message_size(Some(limit))
        .max_frame_size(Some(limit))
        .accept_unmasked_frames(false);
    WebSocketContext::new(Role::Server, Some(config))
}
