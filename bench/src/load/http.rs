//! Connections that send requests, on one thread: requests are built before the run, and of the answers only the status and the
//! length are read.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use memchr::memmem;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::figures::Durations;
use crate::load::rate::{Pace, Ticker};

/// For an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
const POLL_TIMEOUT: Duration = Duration::from_millis(20);
const TICKER: Token = Token(usize::MAX - 1);

/// What is sent.
pub(crate) trait RequestSource {
    /// How a good answer begins.
    const GOOD_ANSWER: &'static [u8];

    /// Appends the next request of a connection, which was due at `due`. False when there is none left.
    fn append(&mut self, connection: usize, due: Duration, out: &mut Vec<u8>) -> bool;
}

/// Connections that are open all the time.
pub(crate) struct Connections<S> {
    pub(crate) source: S,
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    /// The one that has been idle for longest is next: a load balancer closes idle ones.
    idle: VecDeque<usize>,
    has_more: bool,
    epoch: Instant,
    buffer: Vec<u8>,
    out: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    due: Duration,
    answer: Vec<u8>,
}

/// What came of it.
pub(crate) struct Sent {
    pub(crate) elapsed: Duration,
    pub(crate) answered: u64,
    pub(crate) ages: Durations,
}

impl<S: RequestSource> Connections<S> {
    /// Opens `count` connections, to each address in its turn. Stamps count from `epoch`.
    pub(crate) fn open(addresses: &[SocketAddr], count: usize, source: S, epoch: Instant) -> Result<Self> {
        let poll = Poll::new()?;
        let mut connections = Vec::with_capacity(count);
        for (number, address) in addresses.iter().cycle().take(count).enumerate() {
            let stream = std::net::TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
            connections.push(Connection { stream, due: Duration::ZERO, answer: Vec::new() });
        }
        Ok(Self {
            source,
            poll,
            events: Events::with_capacity(256),
            idle: (0..connections.len()).rev().collect(),
            connections,
            has_more: true,
            epoch,
            buffer: vec![0; 64 * 1024],
            out: Vec::new(),
        })
    }

    /// Every connection sends again as soon as it is answered. Ends early when the source has nothing left.
    pub(crate) fn at_full_speed(&mut self, duration: Duration) -> Result<Sent> {
        let (start, mut ages, mut answered) = (self.epoch.elapsed(), Durations::new(), 0);
        let mut now = start;
        while now < start + duration && (self.has_more || self.idle.len() < self.connections.len()) {
            while self.has_more
                && let Some(number) = self.idle.pop_front()
            {
                self.send(number, now)?;
            }
            answered += self.turn(&mut ages)?;
            now = self.epoch.elapsed();
        }
        let elapsed = now - start;
        self.settle(&mut Durations::new())?;
        Ok(Sent { elapsed, answered, ages })
    }

    /// So many a second; what is due while all connections are busy waits, and its wait counts.
    pub(crate) fn at_rate(&mut self, per_second: f64, duration: Duration) -> Result<Sent> {
        let ticker = Ticker::new(self.poll.registry(), TICKER)?;
        let (start, mut ages, mut answered) = (self.epoch.elapsed(), Durations::new(), 0);
        let (mut pace, mut waiting) = (Pace::new(start, per_second), VecDeque::new());
        let mut now = start;
        while now < start + duration || !waiting.is_empty() {
            ensure!(now < start + duration + TIMEOUT, "{per_second} requests a second are more than the server takes");
            ensure!(self.has_more, "there are not enough requests for {per_second} a second");
            if now < start + duration {
                waiting.extend(std::iter::from_fn(|| pace.next(now)));
            }
            while !waiting.is_empty()
                && let Some(number) = self.idle.pop_front()
                && let Some(due) = waiting.pop_front()
            {
                self.send(number, due)?;
            }
            answered += self.turn(&mut ages)?;
            ticker.rearm();
            now = self.epoch.elapsed();
        }
        answered += self.settle(&mut ages)?;
        ticker.stop(self.poll.registry())?;
        Ok(Sent { elapsed: now - start, answered, ages })
    }

    /// Waits for every answer.
    fn settle(&mut self, ages: &mut Durations) -> Result<u64> {
        let (started, mut answered) = (Instant::now(), 0);
        while self.idle.len() < self.connections.len() {
            ensure!(started.elapsed() < TIMEOUT, "a request was not answered within {} s", TIMEOUT.as_secs());
            answered += self.turn(ages)?;
        }
        Ok(answered)
    }

    fn send(&mut self, number: usize, due: Duration) -> Result<()> {
        self.out.clear();
        self.has_more = self.source.append(number, due, &mut self.out);
        if !self.has_more {
            self.idle.push_back(number);
            return Ok(());
        }
        let connection = &mut self.connections[number];
        connection.due = due;
        connection.stream.write_all(&self.out).context("a request does not fit")
    }

    fn turn(&mut self, ages: &mut Durations) -> Result<u64> {
        match self.poll.poll(&mut self.events, Some(POLL_TIMEOUT)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(0),
            polled => polled?,
        }
        let mut answered = 0;
        for event in self.events.iter().filter(|event| event.token() != TICKER) {
            let Token(number) = event.token();
            let connection = &mut self.connections[number];
            if connection.read(&mut self.buffer, S::GOOD_ANSWER)? {
                ages.record(self.epoch.elapsed().saturating_sub(connection.due));
                self.idle.push_back(number);
                answered += 1;
            }
        }
        Ok(answered)
    }
}

impl Connection {
    /// Reads what there is, and says whether the answer is complete.
    fn read(&mut self, buffer: &mut [u8], good: &[u8]) -> Result<bool> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => bail!("the server closed a connection after {}", String::from_utf8_lossy(&self.answer)),
                Ok(read) if self.answer.is_empty() && is_complete(&buffer[..read], good)? => return Ok(true),
                Ok(read) => {
                    self.answer.extend_from_slice(&buffer[..read]);
                    if is_complete(&self.answer, good)? {
                        self.answer.clear();
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Whether an answer is all there. One that does not begin as a good one is an error.
fn is_complete(answer: &[u8], good: &[u8]) -> Result<bool> {
    let Some(length) = message_length(answer)? else { return Ok(false) };
    ensure!(answer.starts_with(good), "a request was answered: {}", String::from_utf8_lossy(answer));
    ensure!(answer.len() <= length, "more than one answer to a request");
    Ok(answer.len() == length)
}

/// Bytes of a request or an answer with its body, once its head is there.
pub(crate) fn message_length(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(head) = memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    // `Content-Length` in any case.
    let at =
        memmem::find(&bytes[..head + 2], b"ength: ").context("neither chunks nor missing lengths are understood")?;
    let digits = bytes[at + 7..].iter().take_while(|byte| byte.is_ascii_digit());
    let length = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
    Ok(Some(head + 4 + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATED: &[u8] = b"HTTP/1.1 201";

    #[test]
    fn response_is_complete_with_last_byte() {
        let answer = b"HTTP/1.1 201 Created\r\ncontent-length: 3\r\n\r\nabc";
        assert!(is_complete(answer, CREATED).unwrap());
        assert!((0..answer.len()).all(|length| !is_complete(&answer[..length], CREATED).unwrap()));
        assert!(is_complete(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", CREATED).is_err());
        assert!(is_complete(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n", CREATED).is_err());
    }
}
