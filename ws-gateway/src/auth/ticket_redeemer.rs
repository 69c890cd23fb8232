//! Takes tickets: what the API service kept for one is read and removed in one step, so that of many who show it one is let in.

use bytes::Bytes;
use fred::error::Error;
use fred::interfaces::KeysInterface;
use shared::channel;
use shared::env::Secret;
use shared::ticket::{self, Ticket};

use crate::redis::Nodes;

/// Why a ticket lets nobody in.
#[derive(Debug, thiserror::Error)]
pub enum RedeemError {
    /// Nobody got it, somebody has shown it before, or it is too late.
    #[error("the ticket is unknown, was used, or has expired: get a new one")]
    Unknown,
    /// Redis was not reached; the ticket may be spent all the same.
    #[error("redis: {0}")]
    Redis(#[from] Error),
}

/// Takes tickets.
#[derive(Clone)]
pub struct TicketRedeemer(Nodes);

impl TicketRedeemer {
    /// Takes those that are kept in this Redis.
    #[must_use]
    pub fn new(redis: Nodes) -> Self {
        Self(redis)
    }

    /// The token that a ticket stands for, yet to be verified. From here on the ticket is nobody's.
    ///
    /// # Errors
    /// [`RedeemError`]
    pub async fn redeem(&self, ticket: &Ticket) -> Result<Secret, RedeemError> {
        let key = channel::ticket_key(ticket);
        let sealed: Option<Bytes> = self.0.ask(&key, async |client| client.getdel(&key).await).await?;
        let sealed = sealed.ok_or(RedeemError::Unknown)?;
        ticket::open_token(ticket, sealed.into()).map_err(|_| RedeemError::Unknown)
    }
}
