//! One socket, one task: reads, writes, pings, and ends it with a code that says why.
//!
//! It sends events in the order of their log, each once, and only of its own conversation, or rows of its inbox as they come. No write may take long: a client
//! that does not read is closed and can resume. Nothing that a client sends is kept or logged.
//!
//! While nothing happens a socket is this struct and no buffer. The task is a state machine by hand, since everything that
//! it waits for (the queue, the peer, its bells) it waits for at once, in every state.

pub mod close_reason;
mod closing;
mod deadlines;
mod delivery_tracker;
mod frame_limiter;
mod frames;
pub mod protocol;
mod scratch;
pub(crate) mod timer_wheel;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use shared::audit::{Action, AuditActor};
use shared::event::Cursor;
use shared::receipt::ReceiptKind;
use shared::request::RequestContext;
use shared::token::Principal;
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::http::AcceptedSocket;
use crate::hub::Membership;
use crate::hub::outbound_queue::{EncodedEvent, OutboundQueue, QueueItem, Wakeup};
use crate::hub::topic::Topic;
use crate::pubsub::ReplayReservation;
use crate::rate_limit::SocketPermit;
use crate::session::close_reason::CloseReason;
use crate::session::timer_wheel::SocketTimer;
use crate::state::{AppState, InitialState};
use crate::websocket;
use crate::websocket::{DecodeError, Decoder};
pub(crate) use closing::reject;
use deadlines::{Deadline, Deadlines};
use delivery_tracker::{DeliveryTracker, PingAction};
use frame_limiter::FrameLimiter;
use scratch::{Scratch, WRITE_BATCH_BYTES};

/// A round of writing that takes longer ends the socket.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Rounds written before the peer is heard again, however much waits.
const MAX_WRITES_PER_READ: usize = 8;
/// Times that the peer is heard before other sockets have their turn, however much it sends.
const MAX_READS_PER_POLL: usize = 2;

/// How a socket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disconnect {
    /// We close it.
    Local(CloseReason),
    /// The client has closed it, with this code if it named one.
    Remote(Option<u16>),
    /// The connection broke.
    Lost,
}

impl From<DecodeError> for Disconnect {
    fn from(broken: DecodeError) -> Self {
        Self::Local(match broken {
            DecodeError::Protocol => CloseReason::Protocol,
            DecodeError::NotUtf8 => CloseReason::NotUtf8,
            DecodeError::TooLarge => CloseReason::TooLarge,
        })
    }
}

/// A socket that is served.
pub(crate) struct Session {
    app: Arc<AppState>,
    tcp: TcpStream,
    membership: Membership,
    topic: Topic,
    principal: Arc<Principal>,
    /// Boxed: needed now and then, and in place it would make a socket as large as the allocator's next size.
    context: Box<RequestContext>,
    _permit: Box<SocketPermit>,
    /// What came before the socket was there, and is still to be sent.
    replay: Option<Box<PendingReplay>>,
    /// The last event sent; none at or before it is sent again.
    position: Cursor,
    degraded: bool,
    delivery_tracker: DeliveryTracker,
    deadlines: Deadlines,
    timer: SocketTimer,
    last_typing_at: Option<Instant>,
    frame_limiter: FrameLimiter,
    /// Its place in a drain, in 0..1.
    drain_slot: f32,
    incoming: Decoder,
    /// Whether what came right behind the handshake has been read.
    has_read_early_bytes: bool,
    /// What the kernel did not take, from `sent` on.
    unsent: Vec<u8>,
    sent: usize,
    write_blocked_since: Option<Instant>,
    /// What counts in the queue for the round that is being written; a queue holds a GiB at most.
    in_flight_bytes: u32,
    /// Not counted yet.
    unreported_frames: u32,
}

/// What is still to be sent of what came before. Boxed where it is kept: for nearly all of a life there is nothing.
struct PendingReplay {
    events: VecDeque<Arc<EncodedEvent>>,
    _reservation: Option<ReplayReservation>,
}

/// Serves a socket to its end: a task of its own, and no larger than the connection that it is.
pub(crate) struct SessionTask(SessionState);

#[expect(clippy::large_enum_variant, reason = "the large one is what it is for nearly all of its life")]
enum SessionState {
    Open(Session),
    /// Boxed: what the last words need is not to be set aside for a life.
    Closing(Pin<Box<dyn Future<Output = ()> + Send>>),
    Closed,
}

impl From<Session> for SessionTask {
    fn from(session: Session) -> Self {
        Self(SessionState::Open(session))
    }
}

/// A task that ends in the middle must not leave its owner online for ever.
impl Drop for SessionTask {
    fn drop(&mut self) {
        if let Self(SessionState::Open(session)) = self {
            session.app.presence.socket_closed(&session.topic, session.principal.participant());
        }
    }
}

impl Future for SessionTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self(state) = self.get_mut();
        if let SessionState::Open(session) = state {
            let end = ready!(scratch::with(|scratch| session.poll(context, scratch)));
            if let SessionState::Open(session) = std::mem::replace(state, SessionState::Closed) {
                *state = SessionState::Closing(Box::pin(closing::close(session, end)));
            }
        }
        match state {
            SessionState::Closing(closing) => closing.as_mut().poll(context),
            SessionState::Open(_) | SessionState::Closed => Poll::Ready(()),
        }
    }
}

impl Session {
    /// `already_read` came right behind the handshake.
    pub(crate) fn new(
        app: Arc<AppState>,
        tcp: TcpStream,
        already_read: &[u8],
        admitted: AcceptedSocket,
        drain_slot: f32,
    ) -> Self {
        let AcceptedSocket { context, principal, topic, start, permit } = admitted;
        let InitialState { membership, cursor, resumed, replay, reservation, unacknowledged } = start;
        let id = topic.conversation_id();
        tracing::debug!(
            request_id = &*context.request_id,
            conversation = id.map(tracing::field::display),
            "socket opened"
        );
        app.audit.enqueue(topic.entry(Action::SocketOpen, 101, AuditActor::from(&principal.actor), &context));
        frames::report_receipts(&app, &topic, (&principal, &context), ReceiptKind::Delivered, unacknowledged);
        let now = Instant::now();
        let config = &app.config;
        let deadlines = Deadlines::new(now, config.heartbeat, config.idle_timeout, &principal);
        let timer = SocketTimer::new(
            &app.timer_wheel,
            membership.outbound(),
            deadlines.next_at(now, OffsetDateTime::now_utc()),
        );
        app.open_sockets.increment(1.0);
        app.presence.socket_opened(&topic, principal.participant());
        let mut unsent = Vec::new();
        websocket::text(&mut unsent, &protocol::ready(id, cursor, resumed));
        Self {
            app,
            tcp,
            membership,
            topic,
            principal,
            context: Box::new(context),
            _permit: permit,
            replay: (!replay.is_empty())
                .then(|| Box::new(PendingReplay { events: replay.into(), _reservation: reservation })),
            position: cursor.unwrap_or(Cursor::START),
            degraded: false,
            delivery_tracker: DeliveryTracker::default(),
            deadlines,
            timer,
            last_typing_at: None,
            frame_limiter: FrameLimiter::default(),
            drain_slot,
            incoming: Decoder::after(already_read),
            has_read_early_bytes: false,
            unsent,
            sent: 0,
            write_blocked_since: None,
            in_flight_bytes: 0,
            unreported_frames: 1,
        }
    }

    /// Does all that can be done without waiting.
    fn poll(&mut self, context: &mut Context<'_>, scratch: &mut Scratch) -> Poll<Disconnect> {
        let ended = match self.drive(context, scratch) {
            Poll::Ready(Err(end)) => {
                // What was answered before the end came goes before the last words.
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

    fn drive(&mut self, context: &mut Context<'_>, scratch: &mut Scratch) -> Poll<Result<Infallible, Disconnect>> {
        if !std::mem::replace(&mut self.has_read_early_bytes, true) {
            self.read_frames(&mut [], &mut scratch.out)?;
            self.write(context, &mut scratch.out)?;
        }
        for _ in 0..MAX_READS_PER_POLL {
            // Whether the queue was found empty, and wakes this task when it no longer is.
            let mut is_registered = false;
            for _ in 0..MAX_WRITES_PER_READ {
                if self.write_unsent(context)?.is_pending() {
                    // The queue fills up meanwhile; nothing is read, so a client that sends and does not read stops itself.
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
                let Poll::Ready(heard) = self.read(context, &mut scratch.input) else {
                    // More may wait in the queue, which would tell nobody: it believes this task awake.
                    if !is_registered {
                        context.waker().wake_by_ref();
                    }
                    return Poll::Pending;
                };
                let heard = heard?;
                self.read_frames(&mut scratch.input[..heard], &mut scratch.out)?;
                self.write(context, &mut scratch.out)?;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn outbound(&self) -> &Arc<OutboundQueue> {
        self.membership.outbound()
    }

    /// Sends what came before the socket was there. Pending when there is nothing of that any more.
    fn send_replay(&mut self, context: &mut Context<'_>, scratch: &mut Scratch) -> Result<Poll<()>, Disconnect> {
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

    /// Writes what has waited, as one, with a Ping behind it if it holds something to prove.
    fn flush_queue(&mut self, context: &mut Context<'_>, scratch: &mut Scratch) -> Result<Poll<()>, Disconnect> {
        let written = std::mem::take(&mut self.in_flight_bytes) as usize;
        let mut oldest = None;
        let drain_slot =
            self.membership.outbound().poll_next_batch(context, written, &mut scratch.items, WRITE_BATCH_BYTES);
        match drain_slot {
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

    /// Appends a Ping when it is time to prove something, or sees to it that it will be.
    fn append_delivery_ping(&mut self, out: &mut Vec<u8>) {
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

    fn wake_at(&mut self, at: Instant) {
        self.timer.wake_by(&self.app.timer_wheel, self.membership.outbound(), at);
    }

    /// Does what is due by now.
    fn run_due(&mut self, out: &mut Vec<u8>) -> Result<(), Disconnect> {
        let (now, wall) = (Instant::now(), OffsetDateTime::now_utc());
        if self.write_blocked_since.is_some_and(|since| since + WRITE_TIMEOUT <= now) {
            return Err(Disconnect::Local(CloseReason::TooSlow));
        }
        while let Some(due) = self.deadlines.take_due(now, wall) {
            match due {
                Deadline::Drain => return Err(Disconnect::Local(CloseReason::GoingAway)),
                Deadline::TokenExpired => return Err(Disconnect::Local(CloseReason::TokenInvalid)),
                Deadline::IdleTimeout => return Err(Disconnect::Local(CloseReason::TooSlow)),
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
        // A bell that rang for something else before the write has taken too long is not its last.
        let next = self.write_blocked_since.map_or(next, |since| next.min(since + WRITE_TIMEOUT));
        self.timer.fired(&self.app.timer_wheel, self.membership.outbound(), now, next);
        self.append_delivery_ping(out);
        Ok(())
    }

    /// Appends a frame of the gateway's own.
    fn reply(&mut self, text: &str, out: &mut Vec<u8>) {
        self.unreported_frames += 1;
        websocket::text(out, text);
    }

    /// Writes what is in `out`, or keeps it behind what could not be written.
    fn write(&mut self, context: &mut Context<'_>, out: &mut Vec<u8>) -> Result<(), Disconnect> {
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

    /// Writes on what the kernel did not take at once.
    fn write_unsent(&mut self, context: &mut Context<'_>) -> Result<Poll<()>, Disconnect> {
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

    fn read(&mut self, context: &mut Context<'_>, input: &mut [u8]) -> Poll<Result<usize, Disconnect>> {
        let mut buffer = ReadBuf::new(input);
        let read: io::Result<()> = ready!(Pin::new(&mut self.tcp).poll_read(context, &mut buffer));
        Poll::Ready(match read {
            Ok(()) if !buffer.filled().is_empty() => Ok(buffer.filled().len()),
            _ => Err(Disconnect::Lost),
        })
    }
}

#[cfg(test)]
mod tests;
