//! Application state that all requests share. It holds no state of a single request.

use std::sync::Arc;

use shared::contract::http::allowed_origins::AllowedOrigins;
use shared::contract::http::request::TrustedProxies;
use shared::contract::token::cache::TokenCache;
use shared::kit::env::Secret;
use shared::kit::redis::RedisNodes;
use shared::kit::shutdown::Shutdown;
use shared::kit::telemetry::trace::Tracing;

use crate::audit_writer::AuditWriter;
use crate::limits::rate_limit::RateLimits;
use crate::limits::response_budget::ResponseBudget;
use crate::monitors::clock::ClockOffset;
use crate::monitors::database::{DatabaseMonitor, DatabaseState};
use crate::outbox::event_queue::EventSender;
use crate::presence_reader::PresenceReader;
use crate::revocation::RevocationService;
use crate::send_batcher::SendBatcher;
use crate::store::Store;
use crate::ticket_issuer::TicketIssuer;

/// Application state that all requests share.
pub struct AppState {
    /// Verifies tokens.
    pub tokens: TokenCache,
    /// The database, with connections for reads.
    pub store: Store,
    /// The state of the database.
    pub database: DatabaseMonitor,
    /// Writes messages.
    pub send_batcher: SendBatcher,
    /// Writes audit entries of reads and denials.
    pub audit_writer: AuditWriter,
    /// The queue of committed events.
    pub events: EventSender,
    /// Revokes tokens.
    pub revocation: Arc<RevocationService>,
    /// Rate limits per caller.
    pub rate_limits: RateLimits,
    /// Makes spans, if a collector is configured.
    pub traces: Option<Tracing>,
    /// Redis.
    pub redis: RedisNodes,
    /// Offset of this machine's clock.
    pub clock_offset: ClockOffset,
    /// Reads presence.
    pub presence: PresenceReader,
    /// Issues tickets.
    pub ticket_issuer: TicketIssuer,
    /// Bounds unread response bytes.
    pub response_budget: Arc<ResponseBudget>,
    /// Origins whose pages may call the API.
    pub origins: AllowedOrigins,
    /// Signs tokens for the console; in development mode only.
    pub dev_signing_key: Option<Arc<Secret>>,
    /// Proxies whose forwarded headers are trusted.
    pub trusted_proxies: TrustedProxies,
    /// Set once the service begins to stop: load balancers must notice before its port closes.
    pub stopping: Shutdown,
}

/// Why the service is not ready. The causes are for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotReady {
    /// It is stopping.
    Stopping,
    /// The database, or the revocations in it, were not read yet.
    DatabaseNotRead,
    /// The database does not answer.
    DatabaseUnreachable(String),
    /// The database takes no commits.
    DatabaseBlocked(String),
    /// This service cannot work with the database.
    DatabaseUnfit(String),
}

impl AppState {
    /// Whether the service can do its work. Redis may be down: sends continue without it.
    ///
    /// # Errors
    /// [`NotReady`]
    pub fn readiness(&self) -> Result<(), NotReady> {
        if self.stopping.has_begun() {
            return Err(NotReady::Stopping);
        }
        match self.database.state() {
            DatabaseState::Ready if self.revocation.is_loaded() => Ok(()),
            DatabaseState::Ready | DatabaseState::Unknown => Err(NotReady::DatabaseNotRead),
            DatabaseState::Unreachable(cause) => Err(NotReady::DatabaseUnreachable(cause)),
            DatabaseState::Blocked(cause) => Err(NotReady::DatabaseBlocked(cause)),
            DatabaseState::Unfit(cause) => Err(NotReady::DatabaseUnfit(cause)),
        }
    }
}
