//! Redeems tickets. Redis reads and deletes a ticket in one step, so it works only once.

use bytes::Bytes;
use fred::error::Error;
use fred::interfaces::KeysInterface;
use shared::contract::redis::keys;
use shared::contract::ticket::{self, Ticket};
use shared::kit::env::Secret;

use crate::redis::RedisNodes;

/// Why a ticket is not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RedeemError {
    /// The ticket never existed, was used, or has expired.
    #[error("The ticket is unknown, was used, or has expired. Get a new one.")]
    Unknown,
    /// Redis did not reply. The ticket may be consumed nevertheless.
    #[error("redis: {0}")]
    Redis(#[from] Error),
}

/// Redeems tickets.
#[derive(Clone)]
pub(crate) struct TicketRedeemer(RedisNodes);

impl TicketRedeemer {
    /// A redeemer of the tickets in this Redis.
    #[must_use]
    pub(crate) fn new(redis: RedisNodes) -> Self {
        Self(redis)
    }

    /// The token of a ticket, not yet verified. The ticket is consumed.
    ///
    /// # Errors
    /// [`RedeemError`]
    pub(crate) async fn redeem(&self, ticket: &Ticket) -> Result<Secret, RedeemError> {
        let key = keys::ticket_key(ticket);
        let sealed: Option<Bytes> = self.0.execute(&key, async |client| client.getdel(&key).await).await?;
        let sealed = sealed.ok_or(RedeemError::Unknown)?;
        ticket::open_token(ticket, sealed.into()).map_err(|_| RedeemError::Unknown)
    }
}
