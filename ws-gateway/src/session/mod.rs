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

use shared::audit::{Action, Who};
use shared::event::Cursor;
use shared::receipt::Kind;
use shared::request::RequestContext;
use shared::token::Principal;
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::http::Admitted;
use crate::hub::Membership;
use crate::hub::outbound_queue::{Delivery, Item, Outbound, Turn};
use crate::hub::topic::View;
use crate::pubsub::Held;
use crate::rate_limit::Place;
use crate::session::close_reason::Close;
use crate::session::timer_wheel::Alarm;
use crate::state::{Gateway, Start};
use crate::websocket;
use crate::websocket::{Broken, Decoder};
pub(crate) use closing::refuse;
use deadlines::{Clock, Due};
use delivery_tracker::{Next, Proofs};
use frame_limiter::Pace;
use scratch::{ROUND_BYTES, Scratch};

/// A round of writing that takes longer ends the socket.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Rounds written before the peer is heard again, however much waits.
const ROUNDS: usize = 8;
/// Times that the peer is heard before other sockets have their turn, however much it sends.
const HEARINGS: usize = 2;

/// How a socket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// We close it.
    Ours(Close),
    /// The client has closed it, with this code if it named one.
    Peer(Option<u16>),
    /// The connection broke.
    Gone,
}

impl From<Broken> for End {
    fn from(broken: Broken) -> Self {
        Self::Ours(match broken {
            Broken::Protocol => Close::Protocol,
            Broken::NotUtf8 => Close::NotUtf8,
            Broken::TooLarge => Close::TooLarge,
        })
    }
}

/// A socket that is served.
pub(crate) struct Connection {
    gateway: Arc<Gateway>,
    tcp: TcpStream,
    membership: Membership,
    view: View,
    principal: Arc<Principal>,
    /// Boxed: needed now and then, and in place it would make a socket as large as the allocator's next size.
    context: Box<RequestContext>,
    _permit: Box<Place>,
    /// What came before the socket was there, and is still to be sent.
    missed: Option<Box<Missed>>,
    /// The last event sent; none at or before it is sent again.
    position: Cursor,
    degraded: bool,
    proofs: Proofs,
    clock: Clock,
    alarm: Alarm,
    typed_at: Option<Instant>,
    pace: Pace,
    /// Its place in a drain, in 0..1.
    turn: f32,
    incoming: Decoder,
    /// Whether what came right behind the handshake has been read.
    begun: bool,
    /// What the kernel did not take, from `sent` on.
    unsent: Vec<u8>,
    sent: usize,
    stuck_since: Option<Instant>,
    /// What counts in the queue for the round that is being written; a queue holds a GiB at most.
    in_hand: u32,
    /// Not counted yet.
    frames: u32,
}

/// What is still to be sent of what came before. Boxed where it is kept: for nearly all of a life there is nothing.
struct Missed {
    events: VecDeque<Arc<Delivery>>,
    _held: Option<Held>,
}

/// Serves a socket to its end: a task of its own, and no larger than the connection that it is.
pub(crate) struct Serving(Stage);

#[expect(clippy::large_enum_variant, reason = "the large one is what it is for nearly all of its life")]
enum Stage {
    Open(Connection),
    /// Boxed: what the last words need is not to be set aside for a life.
    Leaving(Pin<Box<dyn Future<Output = ()> + Send>>),
    Over,
}

impl From<Connection> for Serving {
    fn from(connection: Connection) -> Self {
        Self(Stage::Open(connection))
    }
}

/// A task that ends in the middle must not leave its owner online for ever.
impl Drop for Serving {
    fn drop(&mut self) {
        if let Self(Stage::Open(connection)) = self {
            connection.gateway.everybody.leave(&connection.view, connection.principal.person());
        }
    }
}

impl Future for Serving {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self(stage) = self.get_mut();
        if let Stage::Open(connection) = stage {
            let end = ready!(scratch::with(|scratch| connection.poll(context, scratch)));
            if let Stage::Open(connection) = std::mem::replace(stage, Stage::Over) {
                *stage = Stage::Leaving(Box::pin(closing::say(connection, end)));
            }
        }
        match stage {
            Stage::Leaving(last_words) => last_words.as_mut().poll(context),
            Stage::Open(_) | Stage::Over => Poll::Ready(()),
        }
    }
}

impl Connection {
    /// `already_read` came right behind the handshake.
    pub(crate) fn new(
        gateway: Arc<Gateway>,
        tcp: TcpStream,
        already_read: &[u8],
        admitted: Admitted,
        turn: f32,
    ) -> Self {
        let Admitted { context, principal, view, start, permit } = admitted;
        let Start { membership, cursor, resumed, missed, held, unproven } = start;
        let id = view.conversation();
        tracing::debug!(
            request_id = &*context.request_id,
            conversation = id.map(tracing::field::display),
            "socket opened"
        );
        gateway.audit.report(view.entry(Action::SocketOpen, 101, Who::from(&principal.actor), &context));
        frames::report(&gateway, &view, (&principal, &context), Kind::Delivered, unproven);
        let now = Instant::now();
        let config = &gateway.config;
        let clock = Clock::new(now, config.heartbeat, config.idle_timeout, &principal);
        let alarm = Alarm::new(&gateway.bells, membership.outbound(), clock.next(now, OffsetDateTime::now_utc()));
        gateway.sockets.increment(1.0);
        gateway.everybody.enter(&view, principal.person());
        let mut unsent = Vec::new();
        websocket::text(&mut unsent, &protocol::ready(id, cursor, resumed));
        Self {
            gateway,
            tcp,
            membership,
            view,
            principal,
            context: Box::new(context),
            _permit: permit,
            missed: (!missed.is_empty()).then(|| Box::new(Missed { events: missed.into(), _held: held })),
            position: cursor.unwrap_or(Cursor::BEGINNING),
            degraded: false,
            proofs: Proofs::default(),
            clock,
            alarm,
            typed_at: None,
            pace: Pace::default(),
            turn,
            incoming: Decoder::after(already_read),
            begun: false,
            unsent,
            sent: 0,
            stuck_since: None,
            in_hand: 0,
            frames: 1,
        }
    }

    /// Does all that can be done without waiting.
    fn poll(&mut self, context: &mut Context<'_>, scratch: &mut Scratch) -> Poll<End> {
        let ended = match self.work(context, scratch) {
            Poll::Ready(Err(end)) => {
                // What was answered before the end came goes before the last words.
                self.unsent.extend_from_slice(&scratch.out);
                Poll::Ready(end)
            }
            Poll::Ready(Ok(never)) => match never {},
            Poll::Pending => Poll::Pending,
        };
        if self.frames > 0 {
            self.gateway.frames_sent.increment(std::mem::take(&mut self.frames).into());
        }
        ended
    }

    fn work(&mut self, context: &mut Context<'_>, scratch: &mut Scratch) -> Poll<Result<Infallible, End>> {
        if !std::mem::replace(&mut self.begun, true) {
            self.hear(&mut [], &mut scratch.out)?;
            self.send(context, &mut scratch.out)?;
        }
        for _ in 0..HEARINGS {
            // Whether the queue was found empty, and wakes this task when it no longer is.
            let mut is_registered = false;
            for _ in 0..ROUNDS {
                if self.write_rest(context)?.is_pending() {
                    // The queue fills up meanwhile; nothing is read, so a client that sends and does not read stops itself.
                    ready!(self.outbound().poll_rung(context)).map_err(End::Ours)?;
                    self.ring(&mut scratch.out)?;
                    self.send(context, &mut scratch.out)?;
                    continue;
                }
                if self.catch_up(context, scratch)?.is_pending() && self.relay(context, scratch)?.is_pending() {
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
                self.hear(&mut scratch.input[..heard], &mut scratch.out)?;
                self.send(context, &mut scratch.out)?;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn outbound(&self) -> &Arc<Outbound> {
        self.membership.outbound()
    }

    /// Sends what came before the socket was there. Pending when there is nothing of that any more.
    fn catch_up(&mut self, context: &mut Context<'_>, scratch: &mut Scratch) -> Result<Poll<()>, End> {
        let Some(mut missed) = self.missed.take() else { return Ok(Poll::Pending) };
        while scratch.out.len() < ROUND_BYTES
            && let Some(delivery) = missed.events.pop_front()
        {
            self.event(&delivery, &mut scratch.out);
        }
        self.missed = Some(missed).filter(|missed| !missed.events.is_empty());
        self.prove(&mut scratch.out);
        self.send(context, &mut scratch.out)?;
        Ok(Poll::Ready(()))
    }

    /// Writes what has waited, as one, with a Ping behind it if it holds something to prove.
    fn relay(&mut self, context: &mut Context<'_>, scratch: &mut Scratch) -> Result<Poll<()>, End> {
        let written = std::mem::take(&mut self.in_hand) as usize;
        let mut oldest = None;
        let turn = self.membership.outbound().poll_take(context, written, &mut scratch.items, ROUND_BYTES);
        match turn {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(Err(why)) => return Err(End::Ours(why)),
            Poll::Ready(Ok(Turn::Ring)) => self.ring(&mut scratch.out)?,
            Poll::Ready(Ok(Turn::Write(bytes))) => {
                self.in_hand = u32::try_from(bytes).unwrap_or(u32::MAX);
                oldest = scratch.items.iter().find_map(Item::cursor);
                for item in scratch.items.drain(..) {
                    self.item(&item, &mut scratch.out);
                }
                self.prove(&mut scratch.out);
            }
        }
        self.send(context, &mut scratch.out)?;
        if let Some(cursor) = oldest
            && self.unsent.is_empty()
        {
            self.gateway.delivery.record(cursor.age());
        }
        Ok(Poll::Ready(()))
    }

    /// Appends a Ping when it is time to prove something, or sees to it that it will be.
    fn prove(&mut self, out: &mut Vec<u8>) {
        if self.proofs.is_idle() {
            return;
        }
        match self.proofs.next(Instant::now(), !out.is_empty()) {
            Next::Nothing => {}
            Next::Ping(payload) => {
                self.frames += 1;
                websocket::ping(out, &payload);
            }
            Next::Later(at) => self.wake_at(at),
        }
    }

    fn wake_at(&mut self, at: Instant) {
        self.alarm.set(&self.gateway.bells, self.membership.outbound(), at);
    }

    /// Does what is due by now.
    fn ring(&mut self, out: &mut Vec<u8>) -> Result<(), End> {
        let (now, wall) = (Instant::now(), OffsetDateTime::now_utc());
        if self.stuck_since.is_some_and(|since| since + WRITE_TIMEOUT <= now) {
            return Err(End::Ours(Close::TooSlow));
        }
        while let Some(due) = self.clock.due(now, wall) {
            match due {
                Due::Leave => return Err(End::Ours(Close::GoingAway)),
                Due::Expired => return Err(End::Ours(Close::TokenEnded)),
                Due::Silent => return Err(End::Ours(Close::TooSlow)),
                Due::Expiring => self.say(&protocol::expiring(self.clock.expires_at()), out),
                Due::Heartbeat => {
                    if let Some(payload) = self.proofs.heartbeat(now) {
                        self.frames += 1;
                        websocket::ping(out, &payload);
                    }
                }
            }
        }
        let next = self.clock.next(now, wall);
        // A bell that rang for something else before the write has taken too long is not its last.
        let next = self.stuck_since.map_or(next, |since| next.min(since + WRITE_TIMEOUT));
        self.alarm.rung(&self.gateway.bells, self.membership.outbound(), now, next);
        self.prove(out);
        Ok(())
    }

    /// Appends a frame of the gateway's own.
    fn say(&mut self, text: &str, out: &mut Vec<u8>) {
        self.frames += 1;
        websocket::text(out, text);
    }

    /// Writes what is in `out`, or keeps it behind what could not be written.
    fn send(&mut self, context: &mut Context<'_>, out: &mut Vec<u8>) -> Result<(), End> {
        if out.is_empty() {
            return Ok(());
        }
        let written = match self.unsent.is_empty() {
            true => match Pin::new(&mut self.tcp).poll_write(context, out) {
                Poll::Ready(Ok(0) | Err(_)) => return Err(End::Gone),
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
    fn write_rest(&mut self, context: &mut Context<'_>) -> Result<Poll<()>, End> {
        while self.sent < self.unsent.len() {
            match Pin::new(&mut self.tcp).poll_write(context, &self.unsent[self.sent..]) {
                Poll::Ready(Ok(0) | Err(_)) => return Err(End::Gone),
                Poll::Ready(Ok(written)) => self.sent += written,
                Poll::Pending => {
                    if self.stuck_since.is_none() {
                        let now = Instant::now();
                        self.stuck_since = Some(now);
                        self.wake_at(now + WRITE_TIMEOUT);
                    }
                    return Ok(Poll::Pending);
                }
            }
        }
        if self.sent > 0 {
            (self.unsent, self.sent, self.stuck_since) = (Vec::new(), 0, None);
        }
        Ok(Poll::Ready(()))
    }

    fn read(&mut self, context: &mut Context<'_>, input: &mut [u8]) -> Poll<Result<usize, End>> {
        let mut buffer = ReadBuf::new(input);
        let read: io::Result<()> = ready!(Pin::new(&mut self.tcp).poll_read(context, &mut buffer));
        Poll::Ready(match read {
            Ok(()) if !buffer.filled().is_empty() => Ok(buffer.filled().len()),
            _ => Err(End::Gone),
        })
    }
}

#[cfg(test)]
mod tests;
