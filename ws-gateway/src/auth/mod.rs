//! Credentials in Redis: revoked tokens, and the token behind a ticket.

mod revocations;
mod ticket_redeemer;

pub use revocations::RevocationSync;
pub use ticket_redeemer::{RedeemError, TicketRedeemer};
