//! What all sockets of this process share. It owns no task and opens no connection.

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram};
use shared::event::Cursor;
use shared::ids::MessageId;
use shared::shutdown::Shutdown;
use shared::token::{Principal, Verifier};
use shared::trace::Traces;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::auth::Revoked;
use crate::auth::Tickets;
use crate::config::Config;
use crate::hub::outbound_queue::{EncodedEvent, OutboundQueue};
use crate::hub::topic::Topic;
use crate::hub::{Hub, Membership, Refused};
use crate::presence::Everybody;
use crate::pubsub::Typing;
use crate::pubsub::{Held, Logs, ReplayBudget, ReplayError, Resumed};
use crate::rate_limit::Limits;
use crate::session::timer_wheel::TimerWheel;
use crate::streams::audit::Audit;
use crate::streams::receipts::Acks;

/// How often a handshake reads its log anew because events may have been lost meanwhile.
const ATTEMPTS: usize = 3;

/// Handed to every handshake and socket.
pub(crate) struct AppState {
    pub(crate) config: Config,
    pub(crate) verifier: Verifier,
    pub(crate) revoked: Arc<Revoked>,
    pub(crate) tickets: Tickets,
    pub(crate) hub: Arc<Hub>,
    pub(crate) logs: Logs,
    /// What waits of the logs for sockets that resume.
    pub(crate) replays: Arc<ReplayBudget>,
    pub(crate) acks: Acks,
    pub(crate) audit: Audit,
    pub(crate) typing: Typing,
    /// Who is online.
    pub(crate) everybody: Everybody,
    /// A permit a socket.
    pub(crate) room: Arc<Semaphore>,
    /// A permit a handshake.
    pub(crate) handshakes: Arc<Semaphore>,
    /// How many there are.
    pub(crate) max_handshakes: usize,
    /// Makes spans, if there is a collector.
    pub(crate) traces: Option<Traces>,
    /// How many somebody may have of that, and of handshakes.
    pub(crate) limits: Limits,
    /// When it began: what sockets count from.
    pub(crate) started: Instant,
    /// Begins when no socket is to be opened any more.
    pub(crate) shutdown: Shutdown,
    /// Counted for every frame: looked up once.
    pub(crate) frames_sent: Counter,
    /// Sockets that are open.
    pub(crate) sockets: Gauge,
    /// From an event's place in its log to its frame in the kernel's hands.
    pub(crate) delivery: Histogram,
    pub(crate) timer_wheel: Arc<TimerWheel>,
}

/// A socket's first look at what it shows: from here on nothing is missed.
pub(crate) struct InitialState {
    pub(crate) membership: Membership,
    /// What `ready` names; `None` where there is no log.
    pub(crate) cursor: Option<Cursor>,
    /// Whether the cursor of the request was good; `None` without one.
    pub(crate) resumed: Option<bool>,
    /// What came after that cursor.
    pub(crate) missed: Vec<Arc<EncodedEvent>>,
    /// The room that this takes.
    pub(crate) held: Option<Held>,
    /// What the cursor proves to have arrived.
    pub(crate) unproven: Vec<MessageId>,
}

/// Why a socket cannot start now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubscribeError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Log(#[from] ReplayError),
    #[error("redis did not confirm the subscription in time")]
    Late,
    #[error("events were lost again and again")]
    Unsteady,
}

impl AppState {
    /// Subscribes first, then reads the log; what comes live meanwhile waits in the socket's queue, and what the log
    /// had already shown is skipped there by its cursor. So there is no moment in which an event could slip through.
    pub(crate) async fn start(
        &self,
        topic: &Topic,
        principal: &Arc<Principal>,
        seen: Option<Cursor>,
    ) -> Result<InitialState, SubscribeError> {
        let channel = &topic.channel();
        for _ in 0..ATTEMPTS {
            let outbound = OutboundQueue::new(principal.clone(), self.config.outbound_queue_bytes);
            let mut membership = self.hub.join(channel.clone(), outbound)?;
            let epoch = timeout(self.config.redis_timeout, membership.subscribed())
                .await
                .map_err(|_| SubscribeError::Late)??;
            if channel.is_inbox() {
                // Whatever is published from now on waits in the queue, and so does the word that some of it was lost.
                return Ok(InitialState {
                    membership,
                    cursor: None,
                    resumed: None,
                    missed: Vec::new(),
                    held: None,
                    unproven: Vec::new(),
                });
            }
            let mut replay = match seen {
                // Boxed: most handshakes have none, and all would carry its size.
                Some(seen) => {
                    let resumed = Box::pin(self.logs.resume(channel, seen, principal.participant())).await?;
                    resumed.map(|resumed| (seen, resumed))
                }
                None => None,
            };
            let mut held = None;
            if let (Some((_, resumed)), Some(person)) = (&replay, principal.participant())
                && !resumed.missed.is_empty()
            {
                held = self.replays.hold(person, resumed.missed.iter().map(|delivery| delivery.frame().len()).sum());
                replay = replay.filter(|_| held.is_some());
            }
            let resumed = seen.map(|_| replay.is_some());
            let (cursor, Resumed { missed, unproven }) = match replay {
                Some(replay) => replay,
                None => (self.logs.tail(channel).await?, Resumed::default()),
            };
            let position = missed.iter().rev().find_map(|delivery| delivery.cursor()).unwrap_or(cursor);
            if membership.settle(epoch, position) {
                return Ok(InitialState { membership, cursor: Some(cursor), resumed, missed, held, unproven });
            }
        }
        Err(SubscribeError::Unsteady)
    }
}
