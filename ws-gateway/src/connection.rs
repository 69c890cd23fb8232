//! One socket, one task: reads, writes, pings, and ends it with a code that says why.
//!
//! It sends events in the order of their log, each once, and only of its own conversation. No write may take long: a client
//! that does not read is closed and can resume. Nothing that a client sends is kept or logged.

mod clock;
mod proof;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use shared::event::{Addressed, Cursor, Header};
use shared::ids::MessageId;
use shared::participant::Conversation;
use shared::receipt::{Kind, MAX_IDS, Receipt};
use shared::token::Principal;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message, Utf8Bytes};

use crate::close::Close;
use crate::gateway::{Gateway, Start};
use crate::handshake::Admitted;
use crate::outbound::{Batch, Item, Outbound};
use crate::protocol::{self, ClientFrame, Code, FrameError, Token};
use clock::{Clock, Due};
use proof::Proofs;

/// A round of writing that takes longer ends the socket.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// From our close frame to the end of the connection, whatever the peer does.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes fed before a flush: what a burst may leave behind as the size of the socket's write buffer.
const FLUSH_BYTES: usize = 16 * 1024;
/// Every socket has one of these; a larger frame grows it for as long as the socket lives.
const READ_BUFFER_BYTES: usize = 1024;
/// At most one notice of typing a socket in this time; more are swallowed.
const TYPING_EVERY: Duration = Duration::from_secs(1);

/// How a socket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// We close it.
    Ours(Close),
    /// The client has closed it, with this code.
    Peer(u16),
    /// The connection broke.
    Gone,
}

type Socket = WebSocketStream<TcpStream>;

/// Serves a socket to its end. `already_read` came right behind the handshake. `turn` in 0..1 is the socket's place in a drain.
pub(crate) async fn serve(
    gateway: Arc<Gateway>,
    tcp: TcpStream,
    already_read: Bytes,
    admitted: Box<Admitted>,
    turn: f64,
) {
    let limit = Some(gateway.config.max_frame_bytes);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(2 * FLUSH_BYTES)
        .max_write_buffer_size(gateway.config.outbound_queue_bytes + 4 * FLUSH_BYTES)
        .max_message_size(limit)
        .max_frame_size(limit);
    let mut socket = WebSocketStream::from_partially_read(tcp, already_read.into(), Role::Server, Some(config)).await;
    let Admitted { request_id, principal, conversation, channel, start, permit } = *admitted;
    let Start { membership, outbound, cursor, resumed, missed } = start;
    let id = conversation.id();
    tracing::debug!(%request_id, conversation = %id, "socket opened");

    let clock = Clock::new(Instant::now(), gateway.config.heartbeat, gateway.config.idle_timeout, principal.expires_at);
    let mut connection = Connection {
        gateway,
        outbound,
        conversation,
        channel,
        principal,
        position: cursor,
        degraded: false,
        proofs: Proofs::default(),
        clock,
        typed_at: None,
        turn,
    };
    let mut first = vec![Message::Text(protocol::ready(id, cursor, resumed))];
    first.extend(missed.into_iter().filter_map(|delivery| connection.prepare(Item::Event(delivery))));
    first.extend(connection.proofs.ping().map(Message::Ping));
    let end = match connection.write(&mut socket, first).await {
        Ok(()) => connection.run(&mut socket).await,
        Err(end) => end,
    };
    // Before the last words, which may take a while: nothing is queued for this socket any more.
    drop(membership);
    let Connection { gateway, outbound, conversation, principal, mut proofs, .. } = connection;
    drop(outbound);
    let code = match end {
        End::Ours(close) => close.code(),
        End::Peer(code) => code,
        End::Gone => 1006,
    };
    metrics::counter!("gateway_closed_total", "code" => label(end)).increment(1);
    tracing::info!(%request_id, conversation = %id, code, by_peer = matches!(end, End::Peer(_)), "socket closed");
    let last_ping = proofs.farewell();
    let prove = |pong: &[u8]| report(&gateway, &conversation, &principal, Kind::Delivered, &proofs.pong(pong));
    let _late = timeout(CLOSE_TIMEOUT, say_goodbye(&mut socket, end, last_ping, prove)).await;
    drop(permit);
}

/// A label for metrics. A client may send thousands of codes, so its own are not told apart.
fn label(end: End) -> &'static str {
    match end {
        End::Ours(Close::GoingAway) => "1001",
        End::Ours(Close::Protocol) => "1002",
        End::Ours(Close::NotUtf8) => "1007",
        End::Ours(Close::TooLarge) => "1009",
        End::Ours(Close::TryAgain) => "1013",
        End::Ours(Close::TokenEnded) => "4401",
        End::Ours(Close::Forbidden) => "4403",
        End::Ours(Close::TooSlow) => "4408",
        End::Ours(Close::TooManySockets) => "4429",
        End::Peer(_) => "peer",
        End::Gone => "gone",
    }
}

/// Closes in the way of RFC 6455, section 7: our frame, the peer's, then the connection. A Ping before our frame lets
/// the peer prove what has arrived: it answers in order, and the Ping first.
async fn say_goodbye(socket: &mut Socket, end: End, last_ping: Option<Bytes>, mut prove: impl FnMut(&[u8])) {
    if let End::Ours(close) = end {
        let messages = last_ping.map(Message::Ping).into_iter().chain([Message::Close(Some(close.frame()))]);
        for message in messages {
            if socket.feed(message).await.is_err() {
                return;
            }
        }
        if socket.flush().await.is_err() {
            return;
        }
    }
    if matches!(end, End::Gone) {
        return;
    }
    // Its close frame, or ours that answers it, goes through here.
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Pong(payload) = message {
            prove(&payload);
        }
    }
    // After a broken frame nothing more can be read as WebSocket. What the peer still sends is taken off the line, since
    // unread bytes would turn the end into a reset and our close frame would be lost with it.
    let tcp = socket.get_mut();
    if tcp.shutdown().await.is_ok() {
        let mut rest = [0; 1024];
        while matches!(tcp.read(&mut rest).await, Ok(read) if read > 0) {}
    }
}

struct Connection {
    gateway: Arc<Gateway>,
    outbound: Arc<Outbound>,
    conversation: Conversation,
    channel: shared::channel::Channel,
    principal: Arc<Principal>,
    /// The last event sent; none at or before it is sent again.
    position: Cursor,
    degraded: bool,
    proofs: Proofs,
    clock: Clock,
    typed_at: Option<Instant>,
    turn: f64,
}

impl Connection {
    async fn run(&mut self, socket: &mut Socket) -> End {
        let mut timer = Box::pin(sleep_until(self.next_deadline()));
        loop {
            let done = tokio::select! {
                batch = self.outbound.next() => match batch {
                    Ok(batch) => self.relay(socket, batch).await,
                    Err(why) => Err(End::Ours(why)),
                },
                message = socket.next() => self.take(socket, message).await,
                () = &mut timer => {
                    let done = self.ring(socket).await;
                    timer.as_mut().reset(self.next_deadline());
                    done
                }
            };
            if let Err(end) = done {
                return end;
            }
            // A drain, or a token that ends sooner; what moves later is noticed when the timer rings.
            let next = self.next_deadline();
            if next < timer.deadline() {
                timer.as_mut().reset(next);
            }
        }
    }

    fn next_deadline(&self) -> Instant {
        self.clock.next(Instant::now(), OffsetDateTime::now_utc())
    }

    /// Writes what has waited, with a Ping behind it if it holds something to prove.
    async fn relay(&mut self, socket: &mut Socket, Batch { items, bytes }: Batch) -> Result<(), End> {
        let mut messages: Vec<Message> = items.into_iter().filter_map(|item| self.prepare(item)).collect();
        if !messages.is_empty() {
            messages.extend(self.proofs.ping().map(Message::Ping));
            self.write(socket, messages).await?;
        }
        self.outbound.written(bytes);
        Ok(())
    }

    /// The frame of an item, if it is to be sent.
    fn prepare(&mut self, item: Item) -> Option<Message> {
        let text = match item {
            Item::Event(delivery) => {
                if let Header::Logged { cursor, addressed, .. } = &delivery.header {
                    if *cursor <= self.position {
                        return None;
                    }
                    self.position = *cursor;
                    if let Some(Addressed { to, message_id }) = addressed
                        && self.principal.person() == Some(to)
                    {
                        self.proofs.note(*message_id);
                    }
                }
                delivery.text.clone()
            }
            Item::Degraded if self.degraded => return None,
            Item::Degraded => {
                self.degraded = true;
                protocol::DEGRADED
            }
            Item::Recovered if !self.degraded => return None,
            Item::Recovered => {
                self.degraded = false;
                protocol::RECOVERED
            }
            Item::Resync(position) => {
                self.position = position;
                protocol::RESYNC
            }
            Item::GoingAway => {
                self.clock.leave_at(Instant::now() + self.gateway.config.drain.mul_f64(self.turn));
                return None;
            }
        };
        Some(Message::Text(text))
    }

    async fn say(&self, socket: &mut Socket, text: Utf8Bytes) -> Result<(), End> {
        self.write(socket, vec![Message::Text(text)]).await
    }

    /// Writes all of it as one. Nothing is read meanwhile, so a client that sends and does not read stops itself.
    async fn write(&self, socket: &mut Socket, messages: Vec<Message>) -> Result<(), End> {
        self.gateway.frames_sent.increment(messages.len() as u64);
        let write = async {
            let mut fed = 0;
            for message in messages {
                fed += message.len();
                socket.feed(message).await?;
                if fed >= FLUSH_BYTES {
                    fed = 0;
                    socket.flush().await?;
                }
            }
            socket.flush().await
        };
        tokio::select! {
            written = timeout(WRITE_TIMEOUT, write) => match written {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(end_of(&error)),
                Err(_) => Err(End::Ours(Close::TooSlow)),
            },
            why = self.outbound.closed() => Err(End::Ours(why)),
        }
    }

    async fn ring(&mut self, socket: &mut Socket) -> Result<(), End> {
        while let Some(due) = self.clock.due(Instant::now(), OffsetDateTime::now_utc()) {
            match due {
                Due::Leave => return Err(End::Ours(Close::GoingAway)),
                Due::Expired => return Err(End::Ours(Close::TokenEnded)),
                Due::Silent => return Err(End::Ours(Close::TooSlow)),
                Due::Expiring => self.say(socket, protocol::expiring(self.clock.expires_at())).await?,
                Due::Heartbeat => {
                    if let Some(payload) = self.proofs.heartbeat() {
                        self.write(socket, vec![Message::Ping(payload)]).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn take(&mut self, socket: &mut Socket, message: Option<Result<Message, WsError>>) -> Result<(), End> {
        let message = match message {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(end_of(&error)),
            None => return Err(End::Gone),
        };
        self.clock.heard(Instant::now());
        let answer = match message {
            Message::Text(text) => protocol::parse(&text).and_then(|frame| self.obey(frame)),
            Message::Binary(_) => Err(FrameError::new(Code::Malformed, "frames are JSON text")),
            Message::Pong(payload) => {
                let proven = self.proofs.pong(&payload);
                self.report(Kind::Delivered, &proven);
                if let Some(payload) = self.proofs.ping() {
                    self.write(socket, vec![Message::Ping(payload)]).await?;
                }
                Ok(None)
            }
            Message::Close(frame) => return Err(End::Peer(frame.map_or(1005, |frame| frame.code.into()))),
            // Tungstenite answers a Ping itself; a raw frame is never read.
            Message::Ping(_) | Message::Frame(_) => Ok(None),
        };
        match answer {
            Ok(None) => Ok(()),
            Ok(Some(text)) => self.say(socket, text).await,
            Err(error) => self.say(socket, protocol::error(&error)).await,
        }
    }

    /// Does what a frame asks for. Returns the answer, if there is one.
    fn obey(&mut self, frame: ClientFrame) -> Result<Option<Utf8Bytes>, FrameError> {
        match frame {
            ClientFrame::Ping => Ok(Some(protocol::PONG)),
            ClientFrame::Typing => {
                let from = self.principal.person().ok_or_else(watcher)?;
                let now = Instant::now();
                if self.typed_at.is_none_or(|at| now.duration_since(at) >= TYPING_EVERY) {
                    self.typed_at = Some(now);
                    self.gateway.typing.publish(&self.channel, from);
                }
                Ok(None)
            }
            ClientFrame::Receipt(kind, ids) => {
                self.principal.person().ok_or_else(watcher)?;
                self.report(kind, &ids);
                Ok(None)
            }
            ClientFrame::Auth(token) => self.renew(&token).map(Some),
        }
    }

    fn report(&self, kind: Kind, message_ids: &[MessageId]) {
        report(&self.gateway, &self.conversation, &self.principal, kind, message_ids);
    }

    /// A fresh token for the same participant. A bad one changes nothing: the socket lives as long as its old token.
    fn renew(&mut self, Token(token): &Token) -> Result<Utf8Bytes, FrameError> {
        let principal = self
            .gateway
            .verifier
            .verify(token)
            .map_err(|error| FrameError::new(Code::Unauthorized, error.to_string()))?;
        if principal.actor != self.principal.actor {
            return Err(FrameError::new(Code::Forbidden, "the token is somebody else's"));
        }
        principal
            .check_sees(&self.conversation)
            .map_err(|error| FrameError::new(Code::Forbidden, error.to_string()))?;
        self.clock.renew(principal.expires_at);
        self.principal = Arc::new(principal);
        self.outbound.renew(self.principal.clone());
        // Taken back since it was verified, when the sweep found the old one here.
        if self.gateway.revoked.known().covers(&self.principal) {
            self.outbound.close(Close::TokenEnded);
        }
        Ok(protocol::authenticated(self.principal.expires_at))
    }
}

/// Hands receipts to the API service, which knows whether these messages are the participant's to mark.
fn report(
    gateway: &Gateway,
    conversation: &Conversation,
    principal: &Principal,
    kind: Kind,
    message_ids: &[MessageId],
) {
    let Some(participant) = principal.person() else { return };
    let now = OffsetDateTime::now_utc();
    // As the database keeps it: whole microseconds.
    let at = now.replace_nanosecond(now.nanosecond() / 1000 * 1000).unwrap_or(now);
    for ids in message_ids.chunks(MAX_IDS) {
        gateway.acks.report(Receipt {
            kind,
            location: conversation.location().clone(),
            participant: participant.clone(),
            message_ids: ids.to_vec(),
            at,
        });
    }
}

fn watcher() -> FrameError {
    FrameError::new(Code::Forbidden, "a service token watches: it types and receives for nobody")
}

fn end_of(error: &WsError) -> End {
    match error {
        WsError::Capacity(_) => End::Ours(Close::TooLarge),
        WsError::Utf8(_) => End::Ours(Close::NotUtf8),
        WsError::Protocol(
            tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake
            | tokio_tungstenite::tungstenite::error::ProtocolError::SendAfterClosing,
        ) => End::Gone,
        WsError::Protocol(_) => End::Ours(Close::Protocol),
        WsError::WriteBufferFull(_) => End::Ours(Close::TooSlow),
        _ => End::Gone,
    }
}
