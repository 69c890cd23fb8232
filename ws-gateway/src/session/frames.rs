//! What goes through a socket, frame by frame: items to the client, the client's frames to whom they concern.

use std::sync::Arc;
use std::time::Duration;

use shared::audit::{Action, Who};
use shared::event::{Addressed, Header};
use shared::ids::MessageId;
use shared::receipt::{Kind, MAX_IDS, Receipt};
use shared::request::RequestContext;
use shared::token::{Principal, TokenError};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::frame_limiter::Verdict;
use super::{Connection, End};
use crate::hub::outbound_queue::{Delivery, Item};
use crate::hub::topic::View;
use crate::session::close_reason::Close;
use crate::session::protocol::{self, ClientFrame, Code, FrameError, Text, Token};
use crate::state::Gateway;
use crate::websocket::{self, Frame};

/// At most one notice of typing a socket in this time; more are swallowed.
const TYPING_EVERY: Duration = Duration::from_secs(1);

/// Messages of a receipt that count as one frame.
const MESSAGES_A_FRAME: u64 = 10;

impl Connection {
    /// Appends the frame of an item, if it is to be sent.
    pub(super) fn item(&mut self, item: &Item, out: &mut Vec<u8>) {
        match item {
            Item::Event(delivery) => self.event(delivery, out),
            Item::Degraded if self.degraded => {}
            Item::Degraded => {
                self.degraded = true;
                self.say(&protocol::DEGRADED, out);
            }
            Item::Recovered if !self.degraded => {}
            Item::Recovered => {
                self.degraded = false;
                self.say(&protocol::RECOVERED, out);
            }
            Item::Resync(position) => {
                self.position = *position;
                self.say(&protocol::RESYNC, out);
            }
            Item::GoingAway => {
                let at = Instant::now() + self.gateway.config.drain.mul_f32(self.turn);
                self.clock.leave_at(at);
                self.wake_at(at);
            }
        }
    }

    pub(super) fn event(&mut self, delivery: &Arc<Delivery>, out: &mut Vec<u8>) {
        if let Header::Logged { cursor, addressed, .. } = &delivery.header {
            if *cursor <= self.position {
                return;
            }
            self.position = *cursor;
            if let Some(Addressed { to, message_id }) = addressed
                && self.principal.person() == Some(to)
            {
                self.proofs.note(*message_id);
            }
        }
        self.frames += 1;
        out.extend_from_slice(delivery.frame());
    }

    /// Reads what has come, and appends the answers.
    pub(super) fn hear(&mut self, input: &mut [u8], out: &mut Vec<u8>) -> Result<(), End> {
        self.clock.heard(Instant::now());
        let mut incoming = std::mem::take(&mut self.incoming);
        let mut excess = Excess::default();
        let limit = self.gateway.config.max_frame_bytes;
        let heard = incoming.read(input, limit, |frame| self.take(&frame, &mut excess, out));
        self.incoming = incoming;
        if heard.is_ok() {
            self.answer_excess(&excess, out);
        }
        heard
    }

    fn take(&mut self, frame: &Frame<'_>, excess: &mut Excess, out: &mut Vec<u8>) -> Result<(), End> {
        let now = Instant::now().duration_since(self.gateway.started);
        let limit = self.gateway.config.max_frames_per_second;
        let verdict = match frame {
            Frame::Fragment { is_empty: false } => self.pace.fragment(now, limit),
            _ => self.pace.frame(now, limit),
        };
        match verdict {
            Verdict::Hear => {}
            // There is one for each Ping of ours at most, and without it no other would be sent.
            Verdict::Ignore if matches!(frame, Frame::Pong(payload) if self.proofs.awaits(payload)) => {}
            Verdict::Ignore if matches!(frame, Frame::Close(_)) => {}
            Verdict::Ignore => {
                metrics::counter!("rate_limited_total", "kind" => "frames").increment(1);
                excess.note(frame);
                return Ok(());
            }
            Verdict::Close => return Err(End::Ours(Close::TooManyFrames)),
        }
        let answer = match frame {
            Frame::Fragment { .. } => return Ok(()),
            Frame::Text(text) => protocol::parse(text).and_then(|frame| self.obey(frame)),
            Frame::Binary => Err(FrameError::new(Code::Malformed, "frames are JSON text")),
            Frame::Ping(payload) => {
                self.frames += 1;
                websocket::pong(out, payload);
                return Ok(());
            }
            Frame::Pong(payload) => {
                let proven = self.proofs.pong(payload);
                self.report(Kind::Delivered, proven);
                self.prove(out);
                return Ok(());
            }
            Frame::Close(code) => return Err(End::Peer(*code)),
        };
        match answer {
            Ok(None) => {}
            Ok(Some(text)) => self.say(&text, out),
            Err(error) => self.say(&protocol::error(&error), out),
        }
        Ok(())
    }

    /// Answers what came above the limit with fewer bytes than it had: the last Ping (RFC 6455, section 5.5.3, allows to leave out
    /// those before it), and one error for all messages.
    fn answer_excess(&mut self, excess: &Excess, out: &mut Vec<u8>) {
        if let Some(payload) = &excess.ping {
            self.frames += 1;
            websocket::pong(out, payload);
        }
        if excess.has_messages {
            let error = FrameError::new(Code::RateLimited, "too many frames: this one was not heard");
            self.say(&protocol::error(&error), out);
        }
    }

    /// Does what a frame asks for. Returns the answer, if there is one.
    fn obey(&mut self, frame: ClientFrame) -> Result<Option<Text>, FrameError> {
        match frame {
            ClientFrame::Ping => Ok(Some(protocol::PONG)),
            ClientFrame::Typing => {
                let from = self.principal.person().ok_or_else(watcher)?;
                if matches!(self.view, View::Inbox(..)) {
                    return Err(FrameError::new(
                        Code::Invalid,
                        "an inbox is no conversation: type on the socket of one",
                    ));
                }
                let now = Instant::now();
                if self.typed_at.is_none_or(|at| now.duration_since(at) >= TYPING_EVERY) {
                    self.typed_at = Some(now);
                    if self.gateway.limits.typing(self.view.location(), from).is_ok() {
                        self.gateway.typing.publish(self.membership.channel(), from);
                    }
                }
                Ok(None)
            }
            ClientFrame::Receipt(kind, ids) => {
                self.principal.person().ok_or_else(watcher)?;
                self.weigh(ids.len());
                self.report(kind, ids);
                Ok(None)
            }
            ClientFrame::Auth(token) => {
                // Before it is verified, which is what costs.
                if self.gateway.limits.token(&self.principal.actor).is_err() {
                    return Err(FrameError::new(Code::RateLimited, "too many tokens: this one was not looked at"));
                }
                let renewed = self.renew(&token);
                let outcome = match &renewed {
                    Ok(_) => 200,
                    Err(refused) if refused.code == Code::Forbidden => 403,
                    Err(_) => 401,
                };
                // Whoever shows another's token is still the one that this socket is for.
                let who = Who::from(&self.principal.actor);
                let shown = self.view.entry(Action::SocketAuth, outcome, who, &self.context);
                self.gateway.audit.report(shown);
                renewed.map(Some)
            }
        }
    }

    /// What a receipt costs others goes by its messages: the frame has counted as one, and was heard; those behind it wait.
    fn weigh(&mut self, messages: usize) {
        let now = Instant::now().duration_since(self.gateway.started);
        let more = messages as u64 / MESSAGES_A_FRAME;
        let _this_one_is_heard = self.pace.frames(more, now, self.gateway.config.max_frames_per_second);
    }

    pub(super) fn report(&self, kind: Kind, message_ids: Vec<MessageId>) {
        report(&self.gateway, &self.view, (&self.principal, &self.context), kind, message_ids);
    }

    /// A fresh token for the same participant. A bad one changes nothing: the socket lives as long as its old token.
    fn renew(&mut self, Token(token): &Token) -> Result<Text, FrameError> {
        let verifier = &self.gateway.verifier;
        let principal = verifier.verify(token).map_err(|error| {
            if error == TokenError::UnknownKey {
                // The issuer may have begun to use it a moment ago: the next attempt will find it.
                verifier.keys().ask();
            }
            FrameError::new(Code::Unauthorized, error.to_string())
        })?;
        if principal.actor != self.principal.actor {
            return Err(FrameError::new(Code::Forbidden, "the token is somebody else's"));
        }
        self.view.check(&principal).map_err(|error| FrameError::new(Code::Forbidden, error.to_string()))?;
        self.clock.renew(&principal);
        // The new one may end sooner.
        self.wake_at(self.clock.next(Instant::now(), OffsetDateTime::now_utc()));
        self.principal = Arc::new(principal);
        self.outbound().renew(self.principal.clone());
        // Taken back since it was verified, it or its key, when the sweep found the old one here.
        if let Err(error) = self.gateway.verifier.check_still_good(&self.principal, OffsetDateTime::now_utc()) {
            self.outbound().close(Close::TokenEnded);
            return Err(FrameError::new(Code::Unauthorized, error.to_string()));
        }
        Ok(protocol::authenticated(self.principal.expires_at))
    }
}

/// What was not heard of one piece of input, because there were too many frames.
#[derive(Default)]
struct Excess {
    /// The payload of the last Ping.
    ping: Option<Vec<u8>>,
    has_messages: bool,
}

impl Excess {
    fn note(&mut self, frame: &Frame<'_>) {
        match frame {
            Frame::Ping(payload) => self.ping = Some(payload.to_vec()),
            Frame::Text(_) | Frame::Binary => self.has_messages = true,
            Frame::Pong(_) | Frame::Fragment { .. } | Frame::Close(_) => {}
        }
    }
}

/// Hands receipts to the API service, which knows whether these messages are the participant's to mark.
pub(super) fn report(
    gateway: &Gateway,
    view: &View,
    (principal, context): (&Principal, &RequestContext),
    kind: Kind,
    mut message_ids: Vec<MessageId>,
) {
    let Some(participant) = principal.person() else { return };
    if message_ids.is_empty() {
        return;
    }
    let now = OffsetDateTime::now_utc();
    // As the database keeps it: whole microseconds.
    let at = now.replace_nanosecond(now.nanosecond() / 1000 * 1000).unwrap_or(now);
    while !message_ids.is_empty() {
        let rest = message_ids.split_off(message_ids.len().min(MAX_IDS));
        let (location, participant) = (view.location().clone(), participant.clone());
        let request = Some(context.clone());
        gateway.acks.report(Receipt { kind, location, participant, message_ids, at, request });
        message_ids = rest;
    }
}

fn watcher() -> FrameError {
    FrameError::new(Code::Forbidden, "a service token watches: it types and receives for nobody")
}
