//! What all sockets of this process share. It owns no task and opens no connection.

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram};
use shared::event::Cursor;
use shared::ids::MessageId;
use shared::shutdown::Shutdown;
use shared::token::{Principal, Verifier};
use shared::trace::Tracing;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::auth::RevocationSync;
use crate::auth::TicketRedeemer;
use crate::config::Config;
use crate::hub::outbound_queue::{EncodedEvent, OutboundQueue};
use crate::hub::topic::Topic;
use crate::hub::{Hub, JoinError, Membership};
use crate::presence::PresenceRegistry;
use crate::pubsub::TypingPublisher;
use crate::pubsub::{EventLog, EventLogError, Replay, ReplayBudget, ReplayReservation};
use crate::rate_limit::RateLimits;
use crate::session::timer_wheel::TimerWheel;
use crate::streams::audit::AuditProducer;
use crate::streams::receipts::ReceiptProducer;

/// How often a handshake reads its log anew because events may have been lost meanwhile.
const MAX_ATTEMPTS: usize = 3;

/// Handed to every handshake and socket.
pub(crate) struct AppState {
    pub(crate) config: Config,
    pub(crate) verifier: Verifier,
    pub(crate) revocations: Arc<RevocationSync>,
    pub(crate) tickets: TicketRedeemer,
    pub(crate) hub: Arc<Hub>,
    pub(crate) event_log: EventLog,
    /// What waits of the logs for sockets that resume.
    pub(crate) replay_budget: Arc<ReplayBudget>,
    pub(crate) receipts: ReceiptProducer,
    pub(crate) audit: AuditProducer,
    pub(crate) typing: TypingPublisher,
    /// Who is online.
    pub(crate) presence: PresenceRegistry,
    /// A permit a socket.
    pub(crate) socket_permits: Arc<Semaphore>,
    /// A permit a handshake.
    pub(crate) handshake_permits: Arc<Semaphore>,
    /// How many there are.
    pub(crate) max_handshakes: usize,
    /// Makes spans, if there is a collector.
    pub(crate) traces: Option<Tracing>,
    /// How many somebody may have of that, and of handshakes.
    pub(crate) rate_limits: RateLimits,
    /// When it began: what sockets count from.
    pub(crate) started_at: Instant,
    /// Begins when no socket is to be opened any more.
    pub(crate) shutdown: Shutdown,
    /// Counted for every frame: looked up once.
    pub(crate) frames_sent: Counter,
    /// Sockets that are open.
    pub(crate) open_sockets: Gauge,
    /// From an event's place in its log to its frame in the kernel's hands.
    pub(crate) delivery_latency: Histogram,
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
    pub(crate) replay: Vec<Arc<EncodedEvent>>,
    /// The room that this takes.
    pub(crate) reservation: Option<ReplayReservation>,
    /// What the cursor proves to have arrived.
    pub(crate) unacknowledged: Vec<MessageId>,
}

/// Why a socket cannot start now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubscribeError {
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error(transparent)]
    EventLog(#[from] EventLogError),
    #[error("redis did not confirm the subscription in time")]
    Timeout,
    #[error("events were lost again and again")]
    Unstable,
}

impl AppState {
    /// Subscribes first, then reads the log; what comes live meanwhile waits in the socket's queue, and what the log
    /// had already shown is skipped there by its cursor. So there is no moment in which an event could slip through.
    pub(crate) async fn subscribe(
        &self,
        topic: &Topic,
        principal: &Arc<Principal>,
        seen: Option<Cursor>,
    ) -> Result<InitialState, SubscribeError> {
        let channel = &topic.channel();
        for _ in 0..MAX_ATTEMPTS {
            let outbound = OutboundQueue::new(principal.clone(), self.config.session.outbound_queue_bytes);
            let mut membership = self.hub.join(channel.clone(), outbound)?;
            let epoch = timeout(self.config.redis.timeout, membership.wait_until_subscribed())
                .await
                .map_err(|_| SubscribeError::Timeout)??;
            if channel.is_inbox() {
                // Whatever is published from now on waits in the queue, and so does the word that some of it was lost.
                return Ok(InitialState {
                    membership,
                    cursor: None,
                    resumed: None,
                    replay: Vec::new(),
                    reservation: None,
                    unacknowledged: Vec::new(),
                });
            }
            let mut resumable = match seen {
                // Boxed: most handshakes have none, and all would carry its size.
                Some(seen) => {
                    let resumed = Box::pin(self.event_log.replay(channel, seen, principal.participant())).await?;
                    resumed.map(|resumed| (seen, resumed))
                }
                None => None,
            };
            let mut reservation = None;
            if let (Some((_, resumed)), Some(person)) = (&resumable, principal.participant())
                && !resumed.events.is_empty()
            {
                reservation = self
                    .replay_budget
                    .reserve(person, resumed.events.iter().map(|delivery| delivery.frame().len()).sum());
                resumable = resumable.filter(|_| reservation.is_some());
            }
            let resumed = seen.map(|_| resumable.is_some());
            let (cursor, Replay { events: replay, unacknowledged }) = match resumable {
                Some(resumable) => resumable,
                None => (self.event_log.read_tail(channel).await?, Replay::default()),
            };
            let position = replay.iter().rev().find_map(|delivery| delivery.cursor()).unwrap_or(cursor);
            if membership.confirm_position(epoch, position) {
                return Ok(InitialState {
                    membership,
                    cursor: Some(cursor),
                    resumed,
                    replay,
                    reservation,
                    unacknowledged,
                });
            }
        }
        Err(SubscribeError::Unstable)
    }
}
