//! What both services agree on about HTTP: which requests they reject, and how they say so.
//!
//! - [`problem`]: RFC 9457 bodies
//! - [`problem_stream`]: answers that an HTTP library gives by itself, as problem bodies
//! - [`request`]: request id, client address and site of a request
//! - [`headers`]: requests whose headers contradict themselves
//! - [`query`]: strict queries
//! - [`origin`]: origins as in RFC 6454
//! - [`allowed_origins`], [`security_headers`]: which pages may call the system, and what browsers get with each response

pub mod allowed_origins;
pub mod headers;
pub mod origin;
pub mod problem;
pub mod problem_stream;
pub mod query;
pub mod request;
pub mod security_headers;
