//! What every request may use. Cheap to share; holds no state of any request.

use std::sync::Arc;

use shared::browser::AllowedOrigins;
use shared::env::Secret;
use shared::redis::Nodes;
use shared::request::TrustedProxies;
use shared::shutdown::Shutdown;
use shared::trace::Traces;
use shared::verified::TokenCache;

use crate::audit::writer::AuditWriter;
use crate::clock_monitor::ClockOffset;
use crate::database_monitor::DatabaseMonitor;
use crate::http::server::response_budget::ResponseBudget;
use crate::presence_reader::PresenceReader;
use crate::publisher::Publisher;
use crate::rate_limit::RateLimits;
use crate::revocation::RevocationService;
use crate::send_batcher::SendBatcher;
use crate::store::Store;
use crate::ticket_issuer::TicketIssuer;

/// What every request may use.
pub struct AppState {
    /// Says whose a token is.
    pub tokens: TokenCache,
    /// The truth, to read pages from.
    pub store: Store,
    /// How it is.
    pub database: DatabaseMonitor,
    /// The one way to send.
    pub send_batcher: SendBatcher,
    /// Keeps the audit trail of what no transaction keeps.
    pub audit_writer: AuditWriter,
    /// The way to the sockets.
    pub publisher: Publisher,
    /// Takes tokens back.
    pub revocation: Arc<RevocationService>,
    /// How often whom is answered.
    pub rate_limits: RateLimits,
    /// Makes spans, if there is a collector.
    pub traces: Option<Traces>,
    /// How Redis is.
    pub redis: Nodes,
    /// How far this machine's clock is off.
    pub clock_offset: ClockOffset,
    /// Knows who is online.
    pub presence: PresenceReader,
    /// Gives out what stands for a token, once.
    pub ticket_issuer: TicketIssuer,
    /// Bytes of answers that nobody has read yet.
    pub response_budget: Arc<ResponseBudget>,
    /// Whose pages may ask.
    pub origins: AllowedOrigins,
    /// Signs tokens for whoever tries the console; in development mode only.
    pub dev_signing_key: Option<Arc<Secret>>,
    /// Whose word on addresses counts.
    pub trusted_proxies: TrustedProxies,
    /// Whether the service is about to end; load balancers must know before its port closes.
    pub stopping: Shutdown,
}
