//! What one caller may use: requests per second, and bytes of responses that it has not read.

pub(crate) mod connection;
pub mod rate_limit;
pub mod response_budget;
