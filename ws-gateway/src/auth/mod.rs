//! Credentials in Redis: revoked tokens, and the token behind a ticket.

mod revocations;
mod ticket_redeemer;

pub(crate) use revocations::RevocationSync;
pub(crate) use ticket_redeemer::{RedeemError, TicketRedeemer};
