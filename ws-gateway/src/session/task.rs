//! The task of one socket: polls the session, then its closing handshake.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use shared::contract::audit::{Action, AuditActor};

use super::{Session, closing, scratch};

/// The task of a socket, from the handshake to the end. It is no larger than the session.
pub(crate) struct SessionTask(SessionState);

#[expect(clippy::large_enum_variant, reason = "the large one is what it is for nearly all of its life")]
enum SessionState {
    Open(Session),
    /// Boxed, so that an open session does not reserve memory for it.
    Closing(Pin<Box<dyn Future<Output = ()> + Send>>),
    Closed,
}

impl From<Session> for SessionTask {
    fn from(session: Session) -> Self {
        Self(SessionState::Open(session))
    }
}

/// A task that ends early, by a panic, leaves nothing open: not in presence, not in the counts, not in the audit trail.
impl Drop for SessionTask {
    fn drop(&mut self) {
        if let Self(SessionState::Open(session)) = self {
            let Session { app, topic, principal, context, .. } = session;
            app.presence.socket_closed(topic, principal.participant());
            app.open_sockets.decrement(1.0);
            let actor = AuditActor::from(&principal.actor);
            app.audit.enqueue(topic.entry(Action::SocketClose, closing::ABNORMAL_CLOSURE, actor, context));
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
