//! Issues tickets: stores a token in Redis for 30 seconds, sealed by its ticket. The gateway that redeems the ticket removes it.

use bytes::Bytes;
use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::KeysInterface;
use fred::types::Expiration;
use shared::contract::redis::keys;
use shared::contract::ticket::{self, Ticket};
use shared::contract::token::Principal;
use shared::kit::crypto::seal::SealError;
use shared::kit::redis::RedisNodes;
use time::OffsetDateTime;

/// A ticket that is valid now.
#[derive(Debug)]
pub struct IssuedTicket {
    /// The ticket.
    pub ticket: Ticket,
    /// Lifetime in seconds.
    pub expires_in: u64,
}

/// Why no ticket was issued.
#[derive(Debug, thiserror::Error)]
pub enum TicketError {
    /// Redis did not store it.
    #[error("redis: {0}")]
    Redis(#[from] Error),
    /// The system has no randomness.
    #[error("no randomness")]
    Randomness,
    /// The token could not be sealed.
    #[error(transparent)]
    Sealing(#[from] SealError),
}

/// Issues tickets.
#[derive(Clone)]
pub struct TicketIssuer(RedisNodes);

impl TicketIssuer {
    /// Uses this Redis.
    #[must_use]
    pub fn new(redis: RedisNodes) -> Self {
        Self(redis)
    }

    /// Issues a ticket for a verified token. On return it is stored.
    ///
    /// # Errors
    /// [`TicketError`]
    pub async fn issue(&self, principal: &Principal, token: &str) -> Result<IssuedTicket, TicketError> {
        let ticket = Ticket::new().map_err(|_| TicketError::Randomness)?;
        let expires_in = ticket::lifetime_seconds(principal, OffsetDateTime::now_utc());
        let (key, kept) = (keys::ticket_key(&ticket), Bytes::from(ticket::seal_token(&ticket, token)?));
        let life = Expiration::EX(i64::try_from(expires_in).unwrap_or(1));
        let (name, value, life) = (&key, &kept, &life);
        let store = |client: Client| async move {
            client.set::<(), _, _>(name, value.clone(), Some(life.clone()), None, false).await
        };
        self.0.execute(name, store).await?;
        Ok(IssuedTicket { ticket, expires_in })
    }
}
