//! State that all sockets of the process share. It owns no task and opens no connection.

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram};
use shared::contract::token::Verifier;
use shared::kit::shutdown::Shutdown;
use shared::kit::telemetry::trace::Tracing;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::auth::{RevocationSync, TicketRedeemer};
use crate::config::Config;
use crate::hub::Hub;
use crate::presence::PresenceRegistry;
use crate::pubsub::{EventLog, ReplayBudget, TypingPublisher};
use crate::rate_limit::RateLimits;
use crate::socket::TimerWheel;
use crate::streams::audit::AuditProducer;
use crate::streams::receipts::ReceiptProducer;

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
