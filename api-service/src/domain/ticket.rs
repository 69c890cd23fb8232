//! Tickets for clients that could send their token only in a URL, where it must not appear.

use serde::Serialize;

use super::error::DomainError;
use crate::model::request_origin::RequestOrigin;
use crate::ticket_issuer::TicketIssuer;

/// A ticket, as the client receives it.
#[derive(Serialize)]
pub struct Ticket {
    ticket: String,
    expires_in: u64,
}

/// Issues a ticket that stands for this token. The gateway authorizes when the ticket is redeemed.
///
/// # Errors
/// [`DomainError::TicketsUnavailable`], [`DomainError::DeadlineExceeded`]; the client has no ticket then.
pub async fn issue(origin: &RequestOrigin, token: &str, issuer: &TicketIssuer) -> Result<Ticket, DomainError> {
    // A stored ticket that no client received is useless, so the step may be cut off.
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
