//! The endpoints: each reads its arguments, calls one use case, and names the responses that it can give.

pub(crate) mod admin_port;
pub(crate) mod conversations;
pub(crate) mod dev_token;
pub(crate) mod health;
pub(crate) mod messages;
pub(crate) mod presence;
pub(crate) mod receipts;
pub(crate) mod revocations;
pub(crate) mod tickets;
