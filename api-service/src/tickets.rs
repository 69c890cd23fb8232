//! Gives out tickets: keeps in Redis, for half a minute, what a token says of its bearer. The gateway that is shown the ticket
//! takes it away.

use fred::prelude::*;
use shared::channel;
use shared::ticket::{self, Ticket};
use shared::token::Principal;
use time::OffsetDateTime;

use crate::redis::redirected;

/// A ticket that is good now.
#[derive(Debug)]
pub struct Issued {
    /// The ticket.
    pub ticket: Ticket,
    /// For how long, in seconds.
    pub expires_in: u64,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum NoTicket {
    /// Redis did not take it.
    #[error("redis: {0}")]
    Redis(#[from] Error),
    /// The system has no randomness.
    #[error("no randomness")]
    Randomness,
}

/// Gives out tickets.
#[derive(Clone)]
pub struct Tickets(Client);

impl Tickets {
    /// Gives out tickets through this Redis.
    #[must_use]
    pub fn new(redis: Client) -> Self {
        Self(redis)
    }

    /// A ticket for the bearer of a token. It is kept when this returns.
    ///
    /// # Errors
    /// [`NoTicket`]
    pub async fn issue(&self, principal: &Principal) -> Result<Issued, NoTicket> {
        let ticket = Ticket::new().map_err(|_| NoTicket::Randomness)?;
        let expires_in = ticket::lifetime(principal, OffsetDateTime::now_utc());
        let (key, grant) = (channel::ticket(&ticket), ticket::grant(principal));
        let life = Expiration::EX(i64::try_from(expires_in).unwrap_or(1));
        redirected(|| self.0.set::<(), _, _>(&key, grant.as_str(), Some(life.clone()), None, false)).await?;
        Ok(Issued { ticket, expires_in })
    }
}
