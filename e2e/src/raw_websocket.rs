//! WebSocket frames by hand (RFC 6455, section 5): a client that may break every rule, and sees whether the server breaks one.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::{WAIT_TIMEOUT, contract, raw_http};

/// Set in the first byte of a frame that ends a message.
pub const FINAL: u8 = 0x80;
/// Kinds of frames (section 11.8).
pub const CONTINUATION: u8 = 0x0;
/// See [`CONTINUATION`].
pub const TEXT: u8 = 0x1;
/// See [`CONTINUATION`].
pub const BINARY: u8 = 0x2;
/// See [`CONTINUATION`].
pub const CLOSE: u8 = 0x8;
/// See [`CONTINUATION`].
pub const PING: u8 = 0x9;
/// See [`CONTINUATION`].
pub const PONG: u8 = 0xa;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// In how many bytes a frame says how long it is.
#[derive(Debug, Clone, Copy)]
pub enum Length {
    /// As few as will do: what the RFC asks for.
    Least,
    /// Two, however short it is.
    Two,
    /// Eight, however short it is.
    Eight,
    /// Eight that say this, independent of what follows.
    Claimed(u64),
}

/// A frame as clients send it.
#[must_use]
pub fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    any_frame(first, Some(MASK), Length::Least, payload.as_ref())
}

/// A frame of any shape.
#[must_use]
pub fn any_frame(first: u8, mask: Option<[u8; 4]>, length: Length, payload: &[u8]) -> Vec<u8> {
    let claimed = match length {
        Length::Claimed(claimed) => claimed,
        Length::Least | Length::Two | Length::Eight => payload.len() as u64,
    };
    let bytes = claimed.to_be_bytes();
    let (short, long) = match length {
        Length::Least if claimed <= 125 => (bytes[7], &[][..]),
        Length::Least if claimed <= 0xffff => (126, &bytes[6..]),
        Length::Two => (126, &bytes[6..]),
        Length::Least | Length::Eight | Length::Claimed(_) => (127, &bytes[..]),
    };
    let mut frame = vec![first, short];
    frame.extend(long);
    if let Some(mask) = mask {
        frame[1] |= 0x80;
        frame.extend(mask);
    }
    let mask = mask.unwrap_or_default();
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A close frame with this code and reason.
#[must_use]
pub fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(FINAL | CLOSE, [&code.to_be_bytes(), reason].concat())
}

/// What the server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawFrame {
    /// A text frame.
    Text(Value),
    /// A Ping.
    Ping(Vec<u8>),
    /// A Pong.
    Pong(Vec<u8>),
    /// A close frame, with its code if it names one. The connection ended behind it, without another byte.
    Close(Option<u16>),
    /// The connection ended without a close frame.
    End,
}

/// An open socket, read by hand.
#[derive(Debug)]
pub struct RawSocket {
    tcp: TcpStream,
    unread: Vec<u8>,
}

impl RawSocket {
    /// Opens a socket: `url` begins with `ws://` and has a query.
    pub async fn open(url: &str, token: &str) -> Self {
        let (host, path) = url.strip_prefix("ws://").and_then(|rest| rest.split_once('/')).expect("a URL with a path");
        let request = format!(
            "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Authorization: Bearer {token}\r\n\r\n"
        );
        let tcp = raw_http::connect(url).await;
        tcp.set_nodelay(true).unwrap();
        let mut socket = Self { tcp, unread: Vec::new() };
        socket.write(request.as_bytes()).await;
        let deadline = Instant::now() + WAIT_TIMEOUT;
        let head = loop {
            if let Some(end) = socket.unread.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break socket.unread.drain(..end + 4).collect::<Vec<_>>();
            }
            assert!(socket.read_more(deadline).await, "the handshake has no answer");
        };
        let head = String::from_utf8(head).expect("headers are text");
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        // Of the sample key in section 1.3.
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        socket
    }

    /// Writes bytes. A server that has gone meanwhile may refuse them: what it said before is still to be read.
    pub async fn write(&mut self, bytes: &[u8]) {
        let _gone = self.tcp.write_all(bytes).await;
    }

    /// Writes pieces, each by itself.
    pub async fn write_pieces(&mut self, pieces: impl IntoIterator<Item = &[u8]>) {
        for piece in pieces {
            self.write(piece).await;
            // Lets the server read it before the next one comes, where the machine has the time.
            tokio::task::yield_now().await;
        }
    }

    /// The next frame, or the end.
    pub async fn next_frame(&mut self) -> RawFrame {
        let deadline = Instant::now() + WAIT_TIMEOUT;
        loop {
            if let Some((opcode, payload)) = self.take_frame() {
                return match opcode {
                    TEXT => {
                        let text = String::from_utf8(payload).expect("text is UTF-8");
                        RawFrame::Text(contract::from_server(&text).unwrap_or_else(|why| panic!("{why}")))
                    }
                    PING => RawFrame::Ping(payload),
                    PONG => RawFrame::Pong(payload),
                    CLOSE => {
                        while self.read_more(deadline).await {}
                        assert!(self.unread.is_empty(), "bytes behind a close frame: {:?}", self.unread);
                        RawFrame::Close(close_code(&payload))
                    }
                    other => panic!("a frame of kind {other:#x}"),
                };
            }
            if !self.read_more(deadline).await {
                assert!(self.unread.is_empty(), "half a frame: {:?}", self.unread);
                return RawFrame::End;
            }
        }
    }

    /// All frames from here to the end.
    pub async fn read_to_end(&mut self) -> Vec<RawFrame> {
        let mut frames = Vec::new();
        loop {
            frames.push(self.next_frame().await);
            if let Some(RawFrame::Close(_) | RawFrame::End) = frames.last() {
                return frames;
            }
        }
    }

    async fn read_more(&mut self, deadline: Instant) -> bool {
        let read = timeout_at(deadline, self.tcp.read_buf(&mut self.unread)).await;
        match read.unwrap_or_else(|_| panic!("the server neither answers nor closes; unread: {:?}", self.unread)) {
            Ok(read) => read > 0,
            Err(_) => false,
        }
    }

    /// The frame that has come, if all of it has. What a server may not send fails the test.
    fn take_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let [first, second, rest @ ..] = &self.unread[..] else { return None };
        assert_eq!(first & 0xf0, FINAL, "whole frames without extensions: {first:#x}");
        assert_eq!(second & 0x80, 0, "a server masks nothing");
        let (length, head) = match second {
            126 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
            127 => (u64::from_be_bytes(*rest.first_chunk()?), 10),
            short => (u64::from(*short), 2),
        };
        let least = [(126, 126), (127, 0x1_0000)].into_iter().find(|(mark, _)| mark == second);
        assert!(least.is_none_or(|(_, least)| length >= least), "{length} in more bytes than it takes");
        assert!(first & 0x08 == 0 || length <= 125, "a control frame of {length} bytes");
        let end = head + usize::try_from(length).unwrap();
        let opcode = first & 0x0f;
        (self.unread.len() >= end).then(|| (opcode, self.unread.drain(..end).skip(head).collect()))
    }
}

fn close_code(payload: &[u8]) -> Option<u16> {
    match payload {
        [] => None,
        [high, low, reason @ ..] => {
            std::str::from_utf8(reason).expect("reasons are text");
            Some(u16::from_be_bytes([*high, *low]))
        }
        [_] => panic!("half a close code"),
    }
}
