//! What the API service and the gateway must agree on, and nothing else.
//!
//! It knows neither poem, tokio-postgres nor tungstenite: those belong to the services. Of Redis only [`redis`] knows.
//!
//! - [`ids`]: identifiers of locations, people, messages and conversations
//! - [`participant`]: who takes part in a conversation, and what names the conversation
//! - [`event`]: what travels from the API service to the sockets
//! - [`receipt`]: what travels back, from the sockets to the API service
//! - [`channel`]: every name in Redis, and the scripts that work on them
//! - [`publication`]: events on their way into Redis
//! - [`inbox_rows`]: rows of inboxes on theirs
//! - [`presence`]: who is online, and who may know
//! - [`relay_keys`]: messages that nobody in Redis can read
//! - [`seal`], [`keys`]: AES-256-GCM, and lists of keys as settings have them
//! - [`redacted`]: values that never show themselves
//! - [`token`]: JWT → [`token::Principal`], and what a principal may do
//! - [`verified`]: tokens that were verified already
//! - [`revocation`]: tokens that are refused before they expire
//! - [`ticket_key`]: what stands for a token for half a minute, once
//! - [`mode`]: what a service runs for, and which secrets are good enough for that
//! - [`browser`]: which pages may ask, and what browsers are told with each answer
//! - [`timestamp`]: how clients read a moment
//! - [`headers`]: heads of requests that contradict themselves
//! - [`json`]: JSON from strangers, without contradictions
//! - [`library_answers`]: what an HTTP library answers by itself, as problems
//! - [`query`]: queries of URLs, likewise
//! - [`origin`]: whose page asks (RFC 6454)
//! - [`problem`]: RFC 9457 bodies
//! - [`request`]: where a request comes from
//! - [`audit`]: who did what, on its way into the audit trail
//! - [`refusals`]: of a flood of refusals, a count
//! - [`limit`]: how often somebody may ask
//! - [`insecure`]: what is insecure and yet allowed
//! - [`descriptors`]: descriptors that are kept for our own connections
//! - [`env`]: settings from the environment, all mistakes reported together
//! - [`net`]: listeners that survive a connection storm
//! - [`alive`]: whether a service lives, asked from beside it
//! - [`redis`]: connections to Redis, and to every node of a cluster
//! - [`tls`]: whose word counts that a server is who it says it is
//! - [`telemetry`]: logs and metrics
//! - [`trace`]: spans, for whoever names a collector
//! - [`shutdown`]: tasks that end together, under one deadline

pub mod alive;
pub mod audit;
pub mod browser;
pub mod channel;
pub mod descriptors;
pub mod env;
pub mod event;
pub mod headers;
pub mod ids;
pub mod inbox_rows;
pub mod insecure;
pub mod json;
pub mod keys;
pub mod library_answers;
pub mod limit;
pub mod mode;
pub mod net;
pub mod origin;
pub mod participant;
pub mod presence;
pub mod problem;
pub mod publication;
pub mod query;
pub mod receipt;
pub mod redacted;
pub mod redis;
pub mod refusals;
pub mod relay_keys;
pub mod repeated;
pub mod request;
pub mod revocation;
pub mod seal;
pub mod shutdown;
pub mod telemetry;
pub mod ticket;
pub mod timestamp;
pub mod tls;
pub mod token;
pub mod trace;
pub mod verified;
