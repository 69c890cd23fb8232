//! Frames of one session: queue items to the client, and client frames to their handlers.

use std::sync::Arc;
use std::time::Duration;

use shared::contract::audit::{Action, AuditActor};
use shared::contract::error_code::{ProblemCode, SocketCode};
use shared::contract::event::{Header, Recipient};
use shared::contract::ids::MessageId;
use shared::contract::receipt::ReceiptKind;
use shared::contract::token::TokenError;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::frame_limiter::Decision;
use super::receipts::report_receipts;
use super::{Disconnect, Session};
use crate::session::protocol::{self, ClientFrame, FrameError, TextFrame, Token};
use crate::socket::{CloseReason, EncodedEvent, QueueItem, Topic};
use crate::websocket::Frame;

/// At most one typing notice per socket in this time. Others are dropped.
const TYPING_INTERVAL: Duration = Duration::from_secs(1);

/// Messages of a receipt that count as one frame.
const MESSAGES_PER_FRAME: u64 = 10;

impl Session {
    /// Appends the frame of an item, unless the client must not or need not receive it.
    pub(super) fn append_item(&mut self, item: &QueueItem, out: &mut Vec<u8>) {
        match item {
            QueueItem::Event(delivery) => self.append_event(delivery, out),
            QueueItem::Degraded if self.degraded => {}
            QueueItem::Degraded => {
                self.degraded = true;
                self.reply(&protocol::DEGRADED, out);
            }
            QueueItem::Recovered if !self.degraded => {}
            QueueItem::Recovered => {
                self.degraded = false;
                self.reply(&protocol::RECOVERED, out);
            }
            QueueItem::Resync(position) => {
                self.position = *position;
                self.reply(&protocol::RESYNC, out);
            }
            QueueItem::GoingAway => {
                let at = Instant::now() + self.app.config.process.drain.mul_f32(self.drain_slot);
                self.deadlines.drain_at(at);
                self.wake_at(at);
            }
        }
    }

    pub(super) fn append_event(&mut self, delivery: &Arc<EncodedEvent>, out: &mut Vec<u8>) {
        if let Header::Logged { cursor, recipient, .. } = &delivery.header {
            if *cursor <= self.position {
                return;
            }
            self.position = *cursor;
            if let Some(Recipient { participant: to, message_id }) = recipient
                && self.principal.participant() == Some(to)
            {
                self.delivery_tracker.track(*message_id);
            }
        }
        self.unreported_frames += 1;
        out.extend_from_slice(delivery.frame());
    }

    /// Handles the frames that the input completes, and appends the replies.
    pub(super) fn read_frames(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), Disconnect> {
        self.deadlines.record_activity(Instant::now());
        let mut engine = std::mem::take(&mut self.engine);
        let mut excess = Excess::default();
        let limit = self.app.config.session.max_frame_bytes;
        let read = engine.read(input, limit, |frame| self.on_frame(&frame, &mut excess, out));
        // After an error it still makes the close frame.
        self.engine = engine;
        if read.is_ok() {
            self.reply_to_excess(&excess, out);
        }
        read
    }

    fn on_frame(&mut self, frame: &Frame<'_>, excess: &mut Excess, out: &mut Vec<u8>) -> Result<(), Disconnect> {
        // Before the limit: the reply to a close frame has its code.
        if let Frame::Close(code) = frame {
            return Err(Disconnect::Remote(*code));
        }
        let now = Instant::now().duration_since(self.app.started_at);
        let limit = self.app.config.session.max_frames_per_second;
        let decision = match frame {
            Frame::Fragment { is_empty: false } => self.frame_limiter.check_fragment(now, limit),
            _ => self.frame_limiter.check_frame(now, limit),
        };
        match decision {
            Decision::Accept => {}
            // At most one Pong is expected, and without it no further Ping would be sent.
            Decision::Drop if matches!(frame, Frame::Pong(payload) if self.delivery_tracker.is_expected_pong(payload)) =>
                {}
            Decision::Drop => {
                metrics::counter!("ehr_chat_rate_limited_total", "kind" => "frames").increment(1);
                excess.record(frame);
                return Ok(());
            }
            Decision::Disconnect => return Err(Disconnect::Local(CloseReason::TooManyFrames)),
        }
        let reply = match frame {
            Frame::Fragment { .. } | Frame::Close(_) => return Ok(()),
            Frame::Text(text) => protocol::parse(text).and_then(|frame| self.handle_frame(frame)),
            Frame::Binary => {
                Err(FrameError::new(ProblemCode::Malformed, "A frame is JSON text, not binary. Send text frames."))
            }
            Frame::Ping { pong } => {
                self.unreported_frames += 1;
                out.extend_from_slice(pong);
                return Ok(());
            }
            Frame::Pong(payload) => {
                let acknowledged = self.delivery_tracker.on_pong(payload);
                self.report_receipts(ReceiptKind::Delivered, acknowledged);
                self.append_delivery_ping(out);
                return Ok(());
            }
        };
        match reply {
            Ok(None) => {}
            Ok(Some(text)) => self.reply(&text, out),
            Err(error) => self.reply(&protocol::error(&error), out),
        }
        Ok(())
    }

    /// Answers excess frames with fewer bytes than they had: a Pong to the last Ping (RFC 6455, section 5.5.3), and
    /// one error for all messages.
    fn reply_to_excess(&mut self, excess: &Excess, out: &mut Vec<u8>) {
        if let Some(pong) = &excess.pong {
            self.unreported_frames += 1;
            out.extend_from_slice(pong);
        }
        if excess.has_messages {
            let error = FrameError::new(
                ProblemCode::RateLimited,
                "Too many frames came at once. Frames were dropped. Send fewer.",
            );
            self.reply(&protocol::error(&error), out);
        }
    }

    /// Handles a client frame. Returns the reply, if there is one.
    fn handle_frame(&mut self, frame: ClientFrame) -> Result<Option<TextFrame>, FrameError> {
        match frame {
            ClientFrame::Ping => Ok(Some(protocol::PONG)),
            ClientFrame::Typing => {
                let from = self.principal.participant().ok_or_else(participant_required)?;
                if matches!(self.topic, Topic::Inbox(..)) {
                    return Err(FrameError::new(
                        SocketCode::ConversationRequired,
                        "`typing` needs the socket of a conversation. This one is of an inbox.",
                    ));
                }
                let now = Instant::now();
                if self.last_typing_at.is_none_or(|at| now.duration_since(at) >= TYPING_INTERVAL) {
                    self.last_typing_at = Some(now);
                    if self.app.rate_limits.check_typing(self.topic.location(), from).is_ok() {
                        self.app.typing.publish(self.membership.channel(), from);
                    }
                }
                Ok(None)
            }
            ClientFrame::Receipt(kind, ids) => {
                self.principal.participant().ok_or_else(participant_required)?;
                self.charge_limiter(ids.len());
                self.report_receipts(kind, ids);
                Ok(None)
            }
            ClientFrame::Auth(token) => {
                // Before verification, which is the costly part.
                if self.app.rate_limits.check_token(&self.principal.actor).is_err() {
                    return Err(FrameError::new(
                        ProblemCode::RateLimited,
                        "Too many tokens came at once. This one was not verified. Send it again in a second.",
                    ));
                }
                let renewed = self.renew_token(&token);
                let outcome = match &renewed {
                    Ok(_) => 200,
                    Err(error) if error.code == ProblemCode::Forbidden.into() => 403,
                    Err(_) => 401,
                };
                // The actor is the socket's participant, even if the token is another's.
                let actor = AuditActor::from(&self.principal.actor);
                let entry = self.topic.entry(Action::SocketAuth, outcome, actor, &self.context);
                self.app.audit.enqueue(entry);
                renewed.map(Some)
            }
        }
    }

    /// Charges a receipt for its messages. The frame itself was accepted; later frames may be dropped.
    fn charge_limiter(&mut self, messages: usize) {
        let now = Instant::now().duration_since(self.app.started_at);
        let more = messages as u64 / MESSAGES_PER_FRAME;
        let _decision = self.frame_limiter.check_frames(more, now, self.app.config.session.max_frames_per_second);
    }

    pub(super) fn report_receipts(&self, kind: ReceiptKind, message_ids: Vec<MessageId>) {
        report_receipts(&self.app, &self.topic, (&self.principal, &self.context), kind, message_ids);
    }

    /// Replaces the token with a new one of the same participant. An invalid token changes nothing.
    fn renew_token(&mut self, Token(token): &Token) -> Result<TextFrame, FrameError> {
        let verifier = &self.app.verifier;
        let principal = verifier.verify(token).map_err(|error| {
            if error == TokenError::UnknownKey {
                // The issuer may have published a new key. A later attempt will find it.
                verifier.keys().request_refresh();
            }
            FrameError::from(&error)
        })?;
        if principal.actor != self.principal.actor {
            return Err(FrameError::new(
                ProblemCode::Forbidden,
                "The token belongs to another participant. Open another socket with it.",
            ));
        }
        self.topic.check(&principal).map_err(|error| FrameError::new(error.code(), error.to_string()))?;
        self.deadlines.renew(&principal);
        // The new token may expire earlier.
        self.wake_at(self.deadlines.next_at(Instant::now(), OffsetDateTime::now_utc()));
        self.principal = Arc::new(principal);
        self.outbound().renew(self.principal.clone());
        // The token or its key may have been revoked after verification, while the hub still knew the old token.
        if let Err(error) = self.app.verifier.recheck(&self.principal, OffsetDateTime::now_utc()) {
            self.outbound().close(CloseReason::from(&error));
            return Err(FrameError::from(&error));
        }
        Ok(protocol::authenticated(self.principal.expires_at))
    }
}

/// Frames of one read that were dropped by the limiter.
#[derive(Default)]
struct Excess {
    /// The answer to the last Ping.
    pong: Option<Vec<u8>>,
    has_messages: bool,
}

impl Excess {
    fn record(&mut self, frame: &Frame<'_>) {
        match frame {
            Frame::Ping { pong } => self.pong = Some(pong.to_vec()),
            Frame::Text(_) | Frame::Binary => self.has_messages = true,
            Frame::Pong(_) | Frame::Fragment { .. } | Frame::Close(_) => {}
        }
    }
}

fn participant_required() -> FrameError {
    FrameError::new(ProblemCode::Forbidden, "A `service` token can neither type nor send receipts.")
}
