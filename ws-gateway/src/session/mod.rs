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
mod event_loop;
mod frame_limiter;
mod frames;
pub mod protocol;
mod scratch;
pub(crate) mod timer_wheel;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use shared::audit::{Action, AuditActor};
use shared::event::Cursor;
use shared::receipt::ReceiptKind;
use shared::request::RequestContext;
use shared::token::Principal;
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::http::AcceptedSocket;
use crate::hub::Membership;
use crate::hub::outbound_queue::{EncodedEvent, OutboundQueue};
use crate::hub::topic::Topic;
use crate::pubsub::ReplayReservation;
use crate::rate_limit::SocketPermit;
use crate::session::close_reason::CloseReason;
use crate::session::timer_wheel::SocketTimer;
use crate::state::{AppState, InitialState};
use crate::websocket;
use crate::websocket::{DecodeError, Decoder};
pub(crate) use closing::reject;
use deadlines::Deadlines;
use delivery_tracker::DeliveryTracker;
use frame_limiter::FrameLimiter;

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
        let deadlines = Deadlines::new(now, config.session.heartbeat_interval, config.session.idle_timeout, &principal);
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

    fn outbound(&self) -> &Arc<OutboundQueue> {
        self.membership.outbound()
    }

    fn wake_at(&mut self, at: Instant) {
        self.timer.wake_by(&self.app.timer_wheel, self.membership.outbound(), at);
    }
}

#[cfg(test)]
mod tests;
