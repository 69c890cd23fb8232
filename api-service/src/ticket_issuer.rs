//! Gives out tickets: keeps a token in Redis for half a minute, sealed by its ticket. The gateway that is shown the ticket
//! takes it away.

use bytes::Bytes;
use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::KeysInterface;
use fred::types::Expiration;
use shared::channel;
use shared::redis::Nodes;
use shared::seal::SealError;
use shared::ticket::{self, Ticket};
use shared::token::Principal;
use time::OffsetDateTime;

/// A ticket that is good now.
#[derive(Debug)]
pub struct IssuedTicket {
    /// The ticket.
    pub ticket: Ticket,
    /// For how long, in seconds.
    pub expires_in: u64,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum TicketError {
    /// Redis did not take it.
    #[error("redis: {0}")]
    Redis(#[from] Error),
    /// The system has no randomness.
    #[error("no randomness")]
    Randomness,
    /// The token could not be sealed.
    #[error(transparent)]
    Sealing(#[from] SealError),
}

/// Gives out tickets.
#[derive(Clone)]
pub struct TicketIssuer(Nodes);

impl TicketIssuer {
    /// Gives out tickets through this Redis.
    #[must_use]
    pub fn new(redis: Nodes) -> Self {
        Self(redis)
    }

    /// A ticket for the bearer of a good token. It is kept when this returns.
    ///
    /// # Errors
    /// [`TicketError`]
    pub async fn issue(&self, principal: &Principal, token: &str) -> Result<IssuedTicket, TicketError> {
        let ticket = Ticket::new().map_err(|_| TicketError::Randomness)?;
        let expires_in = ticket::lifetime_seconds(principal, OffsetDateTime::now_utc());
        let (key, kept) = (channel::ticket(&ticket), Bytes::from(ticket::seal_token(&ticket, token)?));
        let life = Expiration::EX(i64::try_from(expires_in).unwrap_or(1));
        let (name, value, life) = (&key, &kept, &life);
        let store = |client: Client| async move {
            client.set::<(), _, _>(name, value.clone(), Some(life.clone()), None, false).await
        };
        self.0.ask(name, store).await?;
        Ok(IssuedTicket { ticket, expires_in })
    }
}
