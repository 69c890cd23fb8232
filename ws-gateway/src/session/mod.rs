//! One task per socket: reads, writes, sends Pings, and closes with a code.
//!
//! A session sends the events of its conversation in log order, each once, or the rows of its inbox as they arrive. A
//! client that does not read is closed and can resume. Nothing that a client sends is stored or logged.
//!
//! An idle session is this struct and no buffer. [`event_loop`] is its state machine; `closing` is the closing
//! handshake.

mod closing;
mod deadlines;
mod delivery_tracker;
mod event_loop;
mod frame_limiter;
mod frames;
mod protocol;
mod receipts;
mod scratch;
mod subscribe;
mod task;

use std::collections::VecDeque;
use std::sync::Arc;

use shared::contract::audit::{Action, AuditActor};
use shared::contract::event::Cursor;
use shared::contract::http::request::RequestContext;
use shared::contract::receipt::ReceiptKind;
use shared::contract::token::Principal;
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::hub::Membership;
use crate::pubsub::ReplayReservation;
use crate::rate_limit::SocketPermit;
use crate::socket::{CloseReason, EncodedEvent, OutboundQueue, SocketTimer, Topic};
use crate::state::AppState;
use crate::websocket;
use crate::websocket::{Engine, ReadError};
pub(crate) use closing::reject;
use deadlines::Deadlines;
use delivery_tracker::DeliveryTracker;
use frame_limiter::FrameLimiter;
use subscribe::InitialState;
pub(crate) use subscribe::{SubscribeError, subscribe};
pub(crate) use task::SessionTask;

/// How a socket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disconnect {
    /// The gateway closes it.
    Local(CloseReason),
    /// The client closed it, with this code if it sent one.
    Remote(Option<u16>),
    /// The connection failed.
    Lost,
}

impl From<ReadError> for Disconnect {
    fn from(error: ReadError) -> Self {
        Self::Local(match error {
            ReadError::Protocol => CloseReason::Protocol,
            ReadError::NotUtf8 => CloseReason::NotUtf8,
            ReadError::TooLarge => CloseReason::TooLarge,
        })
    }
}

/// The state of an open socket.
pub(crate) struct Session {
    app: Arc<AppState>,
    tcp: TcpStream,
    membership: Membership,
    topic: Topic,
    principal: Arc<Principal>,
    /// Boxed: it is rarely needed, and inline it would push the task into the allocator's next size class.
    context: Box<RequestContext>,
    _permit: Box<SocketPermit>,
    /// Events from the log that are not sent yet.
    replay: Option<Box<PendingReplay>>,
    /// The last event sent. Events up to here are skipped.
    position: Cursor,
    degraded: bool,
    delivery_tracker: DeliveryTracker,
    deadlines: Deadlines,
    timer: SocketTimer,
    last_typing_at: Option<Instant>,
    frame_limiter: FrameLimiter,
    /// Its position in the drain window, in 0..1.
    drain_slot: f32,
    engine: Engine,
    /// Bytes that followed the handshake, until the first poll.
    early_bytes: Box<[u8]>,
    /// Bytes that the kernel did not accept, from `sent` on.
    unsent: Vec<u8>,
    sent: usize,
    write_blocked_since: Option<Instant>,
    /// Size of the batch that is being written. A queue is at most 1 GiB.
    in_flight_bytes: u32,
    /// Frames that are not in the metric yet.
    unreported_frames: u32,
}

/// The rest of a replay. Boxed, because most sessions have none.
struct PendingReplay {
    events: VecDeque<Arc<EncodedEvent>>,
    _reservation: Option<ReplayReservation>,
}

/// An authorized and subscribed socket. It starts once the response is written.
pub(crate) struct AcceptedSocket {
    /// Request id and address of the client.
    pub(crate) context: RequestContext,
    pub(crate) principal: Arc<Principal>,
    pub(crate) topic: Topic,
    pub(crate) start: InitialState,
    /// Counts this socket against the limits.
    pub(crate) permit: Box<SocketPermit>,
}

impl Session {
    /// `already_read` are bytes that followed the handshake.
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
        receipts::report_receipts(&app, &topic, (&principal, &context), ReceiptKind::Delivered, unacknowledged);
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
            engine: Engine::default(),
            early_bytes: already_read.into(),
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
