//! One socket of a client: opens, reads frames, answers what must be answered, and nothing more.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use memchr::memmem;
use mio::net::TcpStream;

use crate::load::delivery_counts::DeliveryCounts;
use crate::load::frame;
use crate::stamp::Stamp;

/// How a server speaks on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerProtocol {
    /// Ours: live with the `ready` frame.
    Chat,
    /// The payload and nothing else: live with the handshake.
    Bare,
    /// socket.io over engine.io 4.
    SocketIo,
}

/// How far a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not asked for, or at its end.
    Closed,
    Connecting,
    /// The handshake is on its way.
    Asking,
    /// The handshake is answered; the server's greeting is not here.
    Greeting,
    Live,
}

/// Where a socket is to be, and what it says to get there.
#[derive(Debug, Clone)]
pub(crate) struct ConnectTarget {
    pub(crate) address: SocketAddr,
    /// The handshake's request, with the cursor's place in it if it resumes.
    pub(crate) request: Vec<u8>,
}

/// One socket.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) target: ConnectTarget,
    pub(crate) stream: Option<TcpStream>,
    pub(crate) phase: Phase,
    /// Where the last event that came stands, as our gateway says; kept only when asked for.
    pub(crate) cursor: String,
    pub(crate) resumed: Option<bool>,
    /// The beginning of a frame whose end is not here.
    rest: Vec<u8>,
    expected: u32,
    is_warm: bool,
}

/// What all sockets share while they read.
pub(crate) struct Reading<'a> {
    pub(crate) protocol: ServerProtocol,
    pub(crate) keeps_cursors: bool,
    pub(crate) buffer: &'a mut [u8],
    pub(crate) reply: &'a mut Vec<u8>,
    pub(crate) counts: &'a mut DeliveryCounts,
}

impl Client {
    pub(crate) fn new(target: ConnectTarget) -> Self {
        Self {
            target,
            stream: None,
            phase: Phase::Closed,
            cursor: String::new(),
            resumed: None,
            rest: Vec::new(),
            expected: 0,
            is_warm: false,
        }
    }

    /// Begins to connect.
    pub(crate) fn connect(&mut self) -> io::Result<&mut TcpStream> {
        self.phase = Phase::Connecting;
        self.rest.clear();
        self.resumed = None;
        Ok(self.stream.insert(TcpStream::connect(self.target.address)?))
    }

    /// The connection is there, or will never be.
    pub(crate) fn connected(&mut self) -> Result<()> {
        let stream = self.stream.as_mut().context("a socket without a stream")?;
        if let Some(error) = stream.take_error()? {
            return Err(error.into());
        }
        stream.set_nodelay(true)?;
        stream.write_all(&self.target.request).context("the handshake's request does not fit")?;
        self.phase = Phase::Asking;
        Ok(())
    }

    /// Says farewell; the server ends the connection.
    pub(crate) fn leave(&mut self) -> Result<()> {
        let mut farewell = Vec::new();
        frame::write(&mut farewell, frame::CLOSE, &1000_u16.to_be_bytes());
        self.stream.as_mut().context("a socket without a stream")?.write_all(&farewell)?;
        Ok(())
    }

    /// Reads what there is. Afterwards the socket may be [`Phase::Closed`]: the server has ended it.
    pub(crate) fn read(&mut self, reading: &mut Reading<'_>) -> Result<()> {
        loop {
            let Some(stream) = &mut self.stream else { return Ok(()) };
            let kept = self.rest.len();
            reading.buffer[..kept].copy_from_slice(&self.rest);
            let read = match stream.read(&mut reading.buffer[kept..]) {
                Ok(0) => return self.end(),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return self.end(),
                Err(error) => return Err(error.into()),
            };
            let filled = kept + read;
            let is_full = filled == reading.buffer.len();
            let Reading { protocol, keeps_cursors, buffer, reply, counts } = reading;
            let taken = self.take(&buffer[..filled], *protocol, *keeps_cursors, reply, counts)?;
            self.rest.clear();
            self.rest.extend_from_slice(&buffer[taken..filled]);
            ensure!(self.rest.len() < buffer.len(), "a frame of more than {} bytes", buffer.len());
            if !reply.is_empty() {
                // A socket that cannot take a few bytes is one whose server does not read.
                let written = self.stream.as_mut().map_or(Ok(()), |stream| stream.write_all(reply));
                reply.clear();
                if written.is_err() {
                    return self.end();
                }
            }
            // All that was there: the kernel tells of what comes later.
            if !is_full {
                return Ok(());
            }
        }
    }

    fn end(&mut self) -> Result<()> {
        self.stream = None;
        self.phase = Phase::Closed;
        Ok(())
    }

    /// Takes whole frames off `bytes` and says how much it took.
    fn take(
        &mut self,
        bytes: &[u8],
        protocol: ServerProtocol,
        keeps_cursors: bool,
        reply: &mut Vec<u8>,
        counts: &mut DeliveryCounts,
    ) -> Result<usize> {
        let mut taken = 0;
        if self.phase == Phase::Asking {
            let Some(end) = memmem::find(bytes, b"\r\n\r\n") else { return Ok(0) };
            if !bytes.starts_with(b"HTTP/1.1 101") {
                bail!("a handshake is refused: {}", String::from_utf8_lossy(bytes));
            }
            taken = end + 4;
            self.phase = if protocol == ServerProtocol::Bare { Phase::Live } else { Phase::Greeting };
        }
        while let Some(frame) = frame::parse(&bytes[taken..])? {
            taken += frame.length;
            match frame.opcode {
                frame::TEXT => self.hear(frame.payload, protocol, keeps_cursors, reply, counts)?,
                frame::PING => frame::write(reply, frame::PONG, frame.payload),
                // The echo of the client's close frame, or the server's own; the connection's end follows.
                frame::CLOSE => frame::write(reply, frame::CLOSE, frame.payload),
                _ => {}
            }
        }
        Ok(taken)
    }

    fn hear(
        &mut self,
        payload: &[u8],
        protocol: ServerProtocol,
        keeps_cursors: bool,
        reply: &mut Vec<u8>,
        counts: &mut DeliveryCounts,
    ) -> Result<()> {
        if self.phase == Phase::Greeting {
            return self.greet(payload, protocol, reply);
        }
        if keeps_cursors && let Some(cursor) = cursor(payload) {
            self.cursor.clear();
            self.cursor.push_str(cursor);
        }
        match Stamp::find(payload) {
            Some(stamp) => counts.note(stamp, &mut self.expected, &mut self.is_warm),
            None if protocol == ServerProtocol::SocketIo && payload == b"2" => frame::write(reply, frame::TEXT, b"3"),
            None => {}
        }
        Ok(())
    }

    fn greet(&mut self, payload: &[u8], protocol: ServerProtocol, reply: &mut Vec<u8>) -> Result<()> {
        match protocol {
            ServerProtocol::Chat => {
                let ready = payload.starts_with(br#"{"type":"ready""#);
                ensure!(ready, "the first frame is not `ready`: {}", String::from_utf8_lossy(payload));
                self.cursor = cursor(payload).context("`ready` without a cursor")?.to_owned();
                self.resumed = [(true, &b"\"resumed\":true"[..]), (false, b"\"resumed\":false")]
                    .iter()
                    .find_map(|(resumed, text)| memmem::find(payload, text).map(|_| *resumed));
                self.phase = Phase::Live;
            }
            ServerProtocol::SocketIo if payload.starts_with(b"40") => self.phase = Phase::Live,
            ServerProtocol::SocketIo if payload.starts_with(b"0") => frame::write(reply, frame::TEXT, b"40"),
            ServerProtocol::SocketIo | ServerProtocol::Bare => {
                bail!("not a greeting of engine.io: {}", String::from_utf8_lossy(payload))
            }
        }
        Ok(())
    }
}

/// The cursor of one of our frames.
fn cursor(payload: &[u8]) -> Option<&str> {
    let start = memmem::find(payload, br#""cursor":""#)? + 10;
    let length = memchr::memchr(b'"', &payload[start..])?;
    std::str::from_utf8(&payload[start..start + length]).ok()
}
