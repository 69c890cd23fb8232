//! One poll of a session: a hand-written state machine.
//!
//! A session waits for three things at the same time: its outbound queue (events, a close, its timer), the socket
//! becoming writable, and input from the client. One `poll` does everything that is possible without waiting, in this
//! order:
//!
//! 1. Finish a blocked write. While it is blocked, only the queue's wakeups are polled. Nothing is read, so a client
//!    that sends without reading stops itself.
//! 2. Write one batch: of the replay while it lasts, otherwise of the queue. Repeat up to [`MAX_WRITES_PER_READ`] times.
//! 3. Read once, handle the frames, write the replies. Repeat up to [`MAX_READS_PER_POLL`] times, then yield to other
//!    tasks.
//!
//! `Pending` is returned only if something will wake the task: the queue, the socket, or the task itself.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::deadlines::Deadline;
use super::delivery_tracker::PingAction;
use super::scratch::{Scratch, WRITE_BATCH_BYTES};
use super::{Disconnect, Session};
use crate::socket::{CloseReason, QueueItem, Wakeup};
use crate::{session::protocol, websocket};

/// A write batch that takes longer closes the socket.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Write batches before the client is read again.
pub(super) const MAX_WRITES_PER_READ: usize = 8;
/// Reads before other tasks run.
pub(super) const MAX_READS_PER_POLL: usize = 2;

impl Session {
    /// Does everything that is possible without waiting.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, scratch: &mut Scratch) -> Poll<Disconnect> {
        let ended = match self.drive(context, scratch) {
            Poll::Ready(Err(end)) => {
                // Replies written before the end precede the close frame.
                self.unsent.extend_from_slice(&scratch.out);
                Poll::Ready(end)
            }
            Poll::Ready(Ok(never)) => match never {},
            Poll::Pending => Poll::Pending,
        };
        if self.unreported_frames > 0 {
            self.app.frames_sent.increment(std::mem::take(&mut self.unreported_frames).into());
        }
        ended
    }

    pub(super) fn drive(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<Result<Infallible, Disconnect>> {
        let early_bytes = std::mem::take(&mut self.early_bytes);
        if !early_bytes.is_empty() {
            self.read_frames(&early_bytes, &mut scratch.out)?;
            self.write(context, &mut scratch.out)?;
        }
        for _ in 0..MAX_READS_PER_POLL {
            // Whether the queue was empty and will wake this task.
            let mut is_registered = false;
            for _ in 0..MAX_WRITES_PER_READ {
                if self.write_unsent(context)?.is_pending() {
                    // Blocked: wait for the socket (registered by `write_unsent`) or the queue. Nothing is read
                    // meanwhile.
                    ready!(self.outbound().poll_wakeup(context)).map_err(Disconnect::Local)?;
                    self.run_due(&mut scratch.out)?;
                    self.write(context, &mut scratch.out)?;
                    continue;
                }
                if self.send_replay(context, scratch)?.is_pending() && self.flush_queue(context, scratch)?.is_pending()
                {
                    is_registered = true;
                    break;
                }
            }
            if self.unsent.is_empty() {
                let Poll::Ready(read) = self.read(context, &mut scratch.input) else {
                    // The write limit was reached with items left. The queue wakes only a task that found it empty,
                    // so wake it here.
                    if !is_registered {
                        context.waker().wake_by_ref();
                    }
                    return Poll::Pending;
                };
                let read = read?;
                self.read_frames(&scratch.input[..read], &mut scratch.out)?;
                self.write(context, &mut scratch.out)?;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sends a batch of the replay. Pending if there is none left.
    pub(super) fn send_replay(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Result<Poll<()>, Disconnect> {
        let Some(mut replay) = self.replay.take() else { return Ok(Poll::Pending) };
        while scratch.out.len() < WRITE_BATCH_BYTES
            && let Some(delivery) = replay.events.pop_front()
        {
            self.append_event(&delivery, &mut scratch.out);
        }
        self.replay = Some(replay).filter(|replay| !replay.events.is_empty());
        self.append_delivery_ping(&mut scratch.out);
        self.write(context, &mut scratch.out)?;
        Ok(Poll::Ready(()))
    }

    /// Writes one batch of the queue, with a delivery Ping behind it if one is due.
    pub(super) fn flush_queue(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Result<Poll<()>, Disconnect> {
        let written = std::mem::take(&mut self.in_flight_bytes) as usize;
        let mut oldest = None;
        let batch = self.membership.outbound().poll_next_batch(context, written, &mut scratch.items, WRITE_BATCH_BYTES);
        match batch {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(Err(why)) => return Err(Disconnect::Local(why)),
            Poll::Ready(Ok(Wakeup::Timer)) => self.run_due(&mut scratch.out)?,
            Poll::Ready(Ok(Wakeup::Batch(bytes))) => {
                self.in_flight_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                oldest = scratch.items.iter().find_map(QueueItem::cursor);
                for item in scratch.items.drain(..) {
                    self.append_item(&item, &mut scratch.out);
                }
                self.append_delivery_ping(&mut scratch.out);
            }
        }
        self.write(context, &mut scratch.out)?;
        if let Some(cursor) = oldest
            && self.unsent.is_empty()
        {
            self.app.delivery_latency.record(cursor.age());
        }
        Ok(Poll::Ready(()))
    }

    /// Appends a delivery Ping, or schedules the next one.
    pub(super) fn append_delivery_ping(&mut self, out: &mut Vec<u8>) {
        if self.delivery_tracker.is_idle() {
            return;
        }
        match self.delivery_tracker.next_action(Instant::now(), !out.is_empty()) {
            PingAction::Idle => {}
            PingAction::Ping(payload) => {
                self.unreported_frames += 1;
                websocket::ping(out, &payload);
            }
            PingAction::Wait(at) => self.wake_at(at),
        }
    }

    /// Handles passed deadlines and schedules the next timer.
    pub(super) fn run_due(&mut self, out: &mut Vec<u8>) -> Result<(), Disconnect> {
        let (now, wall) = (Instant::now(), OffsetDateTime::now_utc());
        if self.write_blocked_since.is_some_and(|since| since + WRITE_TIMEOUT <= now) {
            return Err(Disconnect::Local(CloseReason::TooSlow));
        }
        while let Some(due) = self.deadlines.take_due(now, wall) {
            match due {
                Deadline::Drain => return Err(Disconnect::Local(CloseReason::GoingAway)),
                Deadline::TokenExpired => return Err(Disconnect::Local(CloseReason::TokenExpired)),
                Deadline::IdleTimeout => return Err(Disconnect::Local(CloseReason::Silent)),
                Deadline::TokenExpiring => self.reply(&protocol::expiring(self.deadlines.expires_at()), out),
                Deadline::Heartbeat => {
                    if let Some(payload) = self.delivery_tracker.heartbeat_ping(now) {
                        self.unreported_frames += 1;
                        websocket::ping(out, &payload);
                    }
                }
            }
        }
        let next = self.deadlines.next_at(now, wall);
        // The timer may have fired for another deadline. It must fire again for the write timeout.
        let next = self.write_blocked_since.map_or(next, |since| next.min(since + WRITE_TIMEOUT));
        self.timer.fired(&self.app.timer_wheel, self.membership.outbound(), now, next);
        self.append_delivery_ping(out);
        Ok(())
    }

    /// Appends a frame of the gateway.
    pub(super) fn reply(&mut self, text: &str, out: &mut Vec<u8>) {
        self.unreported_frames += 1;
        websocket::text(out, text);
    }

    /// Writes `out`. What the kernel does not accept is kept in `unsent`.
    pub(super) fn write(&mut self, context: &mut Context<'_>, out: &mut Vec<u8>) -> Result<(), Disconnect> {
        if out.is_empty() {
            return Ok(());
        }
        let written = match self.unsent.is_empty() {
            true => match Pin::new(&mut self.tcp).poll_write(context, out) {
                Poll::Ready(Ok(0) | Err(_)) => return Err(Disconnect::Lost),
                Poll::Ready(Ok(written)) => written,
                Poll::Pending => 0,
            },
            false => 0,
        };
        self.unsent.extend_from_slice(&out[written..]);
        out.clear();
        Ok(())
    }

    /// Continues a partial write.
    pub(super) fn write_unsent(&mut self, context: &mut Context<'_>) -> Result<Poll<()>, Disconnect> {
        while self.sent < self.unsent.len() {
            match Pin::new(&mut self.tcp).poll_write(context, &self.unsent[self.sent..]) {
                Poll::Ready(Ok(0) | Err(_)) => return Err(Disconnect::Lost),
                Poll::Ready(Ok(written)) => self.sent += written,
                Poll::Pending => {
                    if self.write_blocked_since.is_none() {
                        let now = Instant::now();
                        self.write_blocked_since = Some(now);
                        self.wake_at(now + WRITE_TIMEOUT);
                    }
                    return Ok(Poll::Pending);
                }
            }
        }
        if self.sent > 0 {
            (self.unsent, self.sent, self.write_blocked_since) = (Vec::new(), 0, None);
        }
        Ok(Poll::Ready(()))
    }

    pub(super) fn read(&mut self, context: &mut Context<'_>, input: &mut [u8]) -> Poll<Result<usize, Disconnect>> {
        let mut buffer = ReadBuf::new(input);
        let read: io::Result<()> = ready!(Pin::new(&mut self.tcp).poll_read(context, &mut buffer));
        Poll::Ready(match read {
            Ok(()) if !buffer.filled().is_empty() => Ok(buffer.filled().len()),
            _ => Err(Disconnect::Lost),
        })
    }
}
