//! State that all sockets of the process share. It owns no task and opens no connection.

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram};
use shared::contract::event::Cursor;
use shared::contract::ids::MessageId;
use shared::contract::token::{Principal, Verifier};
use shared::kit::shutdown::Shutdown;
use shared::kit::telemetry::trace::Tracing;
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

/// Attempts of a handshake to read its log without a gap.
const MAX_ATTEMPTS: usize = 3;

/// Passed to every handshake and session.
pub(crate) struct AppState {
    pub(crate) config: Config,
    pub(crate) verifier: Verifier,
    pub(crate) revocations: Arc<RevocationSync>,
    pub(crate) tickets: TicketRedeemer,
    pub(crate) hub: Arc<Hub>,
    pub(crate) event_log: EventLog,
    /// Bounds the replayed events in memory.
    pub(crate) replay_budget: Arc<ReplayBudget>,
    pub(crate) receipts: ReceiptProducer,
    pub(crate) audit: AuditProducer,
    pub(crate) typing: TypingPublisher,
    /// Which participants are online.
    pub(crate) presence: PresenceRegistry,
    /// One permit per socket.
    pub(crate) socket_permits: Arc<Semaphore>,
    /// One permit per pending handshake.
    pub(crate) handshake_permits: Arc<Semaphore>,
    /// Total of `handshake_permits`.
    pub(crate) max_handshakes: usize,
    /// Exports spans, if a collector is configured.
    pub(crate) traces: Option<Tracing>,
    /// Limits per participant and address.
    pub(crate) rate_limits: RateLimits,
    /// Start of the gateway. Frame limiters count from here.
    pub(crate) started_at: Instant,
    /// Once it has begun, no socket opens.
    pub(crate) shutdown: Shutdown,
    /// Looked up once, because it counts every frame.
    pub(crate) frames_sent: Counter,
    pub(crate) open_sockets: Gauge,
    /// From the event's cursor to the write of its frame.
    pub(crate) delivery_latency: Histogram,
    pub(crate) timer_wheel: Arc<TimerWheel>,
}

/// The state of a new subscription. From here on the socket misses no event.
pub(crate) struct InitialState {
    pub(crate) membership: Membership,
    /// The cursor of `ready`; `None` for an inbox.
    pub(crate) cursor: Option<Cursor>,
    /// Whether the requested cursor was valid; `None` without one.
    pub(crate) resumed: Option<bool>,
    /// Events after that cursor.
    pub(crate) replay: Vec<Arc<EncodedEvent>>,
    /// Memory that the replay reserves.
    pub(crate) reservation: Option<ReplayReservation>,
    /// Messages that the cursor acknowledges.
    pub(crate) unacknowledged: Vec<MessageId>,
}

/// Why a subscription failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubscribeError {
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error(transparent)]
    EventLog(#[from] EventLogError),
    #[error("redis did not confirm the subscription in time")]
    Timeout,
    #[error("the subscription was interrupted repeatedly")]
    Unstable,
}

impl AppState {
    /// Subscribes, then reads the log. Live events wait in the socket's queue meanwhile; the session skips those that
    /// the log already contained. So no event is missed in between.
    pub(crate) async fn subscribe(
        &self,
        topic: &Topic,
        principal: &Arc<Principal>,
        requested: Option<Cursor>,
    ) -> Result<InitialState, SubscribeError> {
        let channel = &topic.channel();
        for _ in 0..MAX_ATTEMPTS {
            let outbound = OutboundQueue::new(principal.clone(), self.config.session.outbound_queue_bytes);
            let mut membership = self.hub.join(channel.clone(), outbound)?;
            let epoch = timeout(self.config.redis.timeout, membership.wait_until_subscribed())
                .await
                .map_err(|_| SubscribeError::Timeout)??;
            if channel.is_inbox() {
                // An inbox has no log. From now on its rows wait in the queue.
                return Ok(InitialState {
                    membership,
                    cursor: None,
                    resumed: None,
                    replay: Vec::new(),
                    reservation: None,
                    unacknowledged: Vec::new(),
                });
            }
            let mut resumable = match requested {
                // Boxed: most handshakes do not resume, but all would reserve its size.
                Some(requested) => {
                    let resumed = Box::pin(self.event_log.replay(channel, requested, principal.participant())).await?;
                    resumed.map(|resumed| (requested, resumed))
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
            let resumed = requested.map(|_| resumable.is_some());
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
