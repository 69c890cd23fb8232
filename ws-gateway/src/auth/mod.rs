//! What Redis says about credentials: which tokens are revoked, and which token a ticket stands for.

mod revocations;
mod ticket_redeemer;

pub use revocations::RevocationSync;
pub use ticket_redeemer::{RedeemError, TicketRedeemer};
