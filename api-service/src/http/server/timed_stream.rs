//! The stream of a connection, and what it waits for: a header, an answer, a client that reads.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Timeouts of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    pub(super) head: Duration,
    pub(super) first: Duration,
    pub(super) idle: Duration,
    pub(super) unread: Duration,
}

/// What a connection is waiting for, and since when. Written by the I/O path, read by the timeout loop.
pub(super) struct HeaderTimer {
    timeouts: Timeouts,
    started_at: Instant,
    /// Milliseconds since `started_at`; the lowest two bits hold the phase.
    since: AtomicU64,
    /// Milliseconds since `started_at` when the client stopped reading, plus one. 0 while it reads.
    write_blocked: AtomicU64,
}

/// No byte of the next request has arrived.
const IDLE: u64 = 0;
/// The same, since the accept. No other idle phase begins within the first millisecond.
const NEVER: u64 = IDLE;
/// A part of a header has arrived.
const ARRIVING: u64 = 1;
/// A request is being handled.
const BUSY: u64 = 2;

impl HeaderTimer {
    pub(super) fn new(timeouts: Timeouts) -> Self {
        Self { timeouts, started_at: Instant::now(), since: AtomicU64::new(IDLE), write_blocked: AtomicU64::new(0) }
    }

    /// Bytes were read; in the idle phase they begin a header.
    fn record_read(&self) {
        if self.since.load(Ordering::Relaxed) & 3 == IDLE {
            self.enter(ARRIVING);
        }
    }

    pub(super) fn header_complete(&self) {
        self.since.store(BUSY, Ordering::Relaxed);
    }

    pub(super) fn start_waiting(&self) {
        self.enter(IDLE);
    }

    /// Records whether the client accepted bytes of a response.
    fn record_write(&self, is_taken: bool) {
        let was_stuck = self.write_blocked.load(Ordering::Relaxed) > 0;
        if !is_taken && !was_stuck {
            self.write_blocked.store(self.elapsed_millis() + 1, Ordering::Relaxed);
        }
        if is_taken && was_stuck {
            self.write_blocked.store(0, Ordering::Relaxed);
            // A client that reads slowly is not idle.
            if self.since.load(Ordering::Relaxed) & 3 == IDLE {
                self.enter(IDLE);
            }
        }
    }

    fn write_blocked_since(&self) -> Option<Instant> {
        let write_blocked = self.write_blocked.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.started_at + Duration::from_millis(write_blocked))
    }

    pub(super) fn is_write_timed_out(&self) -> bool {
        self.write_blocked_since().is_some_and(|since| since.elapsed() >= self.timeouts.unread)
    }

    fn elapsed_millis(&self) -> u64 {
        u64::try_from(self.started_at.elapsed().as_millis()).unwrap_or(0)
    }

    fn enter(&self, what: u64) {
        self.since.store(self.elapsed_millis() << 2 | what, Ordering::Relaxed);
    }

    fn phase(&self) -> (u64, Instant) {
        let since = self.since.load(Ordering::Relaxed);
        (since & 3, self.started_at + Duration::from_millis(since >> 2))
    }

    pub(super) fn is_header_overdue(&self) -> bool {
        let (what, since) = self.phase();
        what == ARRIVING && since.elapsed() >= self.timeouts.head
    }

    pub(super) fn is_idle(&self) -> bool {
        let (what, since) = self.phase();
        what == IDLE && self.write_blocked_since().is_none() && since.elapsed() >= self.idle_timeout()
    }

    /// A connection that never sent a byte gets less time.
    fn idle_timeout(&self) -> Duration {
        match self.since.load(Ordering::Relaxed) {
            NEVER => self.timeouts.first,
            _ => self.timeouts.idle,
        }
    }

    /// When to check again. A header that begins later than now cannot be overdue before that.
    pub(super) fn next_check(&self) -> Instant {
        let later = Instant::now() + self.timeouts.head.min(self.timeouts.unread);
        if let Some(since) = self.write_blocked_since() {
            return later.min(since + self.timeouts.unread);
        }
        match self.phase() {
            (IDLE, since) => later.min(since + self.idle_timeout()),
            (ARRIVING, since) => since + self.timeouts.head,
            _ => later,
        }
    }
}

/// A stream that records reads and writes in its timer.
pub(super) struct TimedStream {
    pub(super) tcp: TcpStream,
    pub(super) timer: Arc<HeaderTimer>,
}

impl AsyncRead for TimedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.tcp).poll_read(cx, buf));
        if buf.filled().len() > before {
            self.timer.record_read();
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for TimedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(cx, buf);
        self.timer.record_write(written.is_ready());
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs);
        self.timer.record_write(written.is_ready());
        written
    }
}
