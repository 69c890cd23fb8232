//! What both services must agree on.
//!
//! - [`ids`], [`participant`]: identifiers, participants and conversations
//! - [`event`]: what travels from the API service to the sockets
//! - [`receipt`]: what travels back, from the sockets to the API service
//! - [`presence`]: who is online, and who may know
//! - [`redis`]: every name in Redis, and the scripts that work on them
//! - [`token`], [`revocation`], [`ticket`]: authentication and authorization
//! - [`audit`]: entries of the audit trail
//! - [`error_code`]: the codes of problems, error frames and close frames
//! - [`http`]: problem bodies, request ids, and which requests are rejected
//! - [`insecure_settings`]: settings that are insecure and yet allowed

pub mod audit;
pub mod error_code;
pub mod event;
pub mod http;
pub mod ids;
pub mod insecure_settings;
pub mod participant;
pub mod presence;
pub mod receipt;
pub mod redis;
pub mod revocation;
pub mod ticket;
pub mod token;
