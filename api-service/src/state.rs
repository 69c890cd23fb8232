//! What every request may use. Cheap to share; holds no state of any request.

use std::sync::Arc;

use shared::browser::AllowedOrigins;
use shared::env::Secret;
use shared::redis::Nodes;
use shared::request::TrustedProxies;
use shared::shutdown::Shutdown;
use shared::trace::Traces;
use shared::verified::VerifiedTokens;

use crate::audit::writer::Auditor;
use crate::clock_monitor::ClockOffset;
use crate::database_monitor::DatabaseWatch;
use crate::http::server::response_budget::Unsent;
use crate::presence_reader::Everybody;
use crate::publisher::Publisher;
use crate::rate_limit::Limits;
use crate::revocation::Revoker;
use crate::send_batcher::Writer;
use crate::store::Store;
use crate::ticket_issuer::Tickets;

/// What every request may use.
pub struct State {
    /// Says whose a token is.
    pub tokens: VerifiedTokens,
    /// The truth, to read pages from.
    pub store: Store,
    /// How it is.
    pub database: DatabaseWatch,
    /// The one way to send.
    pub writer: Writer,
    /// Keeps the audit trail of what no transaction keeps.
    pub auditor: Auditor,
    /// The way to the sockets.
    pub publisher: Publisher,
    /// Takes tokens back.
    pub revoker: Arc<Revoker>,
    /// How often whom is answered.
    pub limits: Limits,
    /// Makes spans, if there is a collector.
    pub traces: Option<Traces>,
    /// How Redis is.
    pub redis: Nodes,
    /// How far this machine's clock is off.
    pub clock: ClockOffset,
    /// Knows who is online.
    pub everybody: Everybody,
    /// Gives out what stands for a token, once.
    pub tickets: Tickets,
    /// Bytes of answers that nobody has read yet.
    pub unsent: Arc<Unsent>,
    /// Whose pages may ask.
    pub origins: AllowedOrigins,
    /// Signs tokens for whoever tries the console; in development mode only.
    pub demonstration: Option<Arc<Secret>>,
    /// Whose word on addresses counts.
    pub trusted_proxies: TrustedProxies,
    /// Whether the service is about to end; load balancers must know before its port closes.
    pub stopping: Shutdown,
}
