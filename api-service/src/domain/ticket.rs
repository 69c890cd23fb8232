//! TicketIssuer for clients that can show their token nowhere but in a URL, where it must not be.

use serde::Serialize;

use super::error::DomainError;
use crate::model::origin::Origin;
use crate::ticket_issuer::TicketIssuer;

/// A ticket, as its bearer gets it.
#[derive(Serialize)]
pub struct Ticket {
    ticket: String,
    expires_in: u64,
}

/// Gives the bearer of any good token, which is this one, a ticket. What it may open is asked when it is shown.
///
/// # Errors
/// [`DomainError::Ticket`], [`DomainError::DeadlineExceeded`]; there is no ticket then.
pub async fn issue(origin: &Origin, token: &str, issuer: &TicketIssuer) -> Result<Ticket, DomainError> {
    // One that is kept and not given to anybody is of no use to anybody.
    let issued = origin.deadline.limit(issuer.issue(&origin.principal, token)).await?;
    Ok(Ticket { ticket: issued.ticket.expose().to_owned(), expires_in: issued.expires_in })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn example() -> Ticket {
        Ticket { ticket: "uXqOVN7Zg0pE4sWm2yJtB9dKcR5aLhFi8vTnYxQ1wPo".to_owned(), expires_in: 30 }
    }
}
