//! Tickets for WebSocket clients.

use std::sync::Arc;

use poem::Request;
use poem::web::Data;
use poem_openapi::{ApiResponse, OpenApi};
use shared::contract::http::problem::Problem;

use crate::domain::ticket;
use crate::http::auth::{self, Caller};
use crate::http::body::RawJson;
use crate::http::error::ApiError;
use crate::http::openapi::schema;
use crate::http::openapi::tag::Tag;
use crate::state::AppState;

pub(crate) struct Tickets;

/// A ticket.
#[derive(ApiResponse)]
enum TicketResponse {
    /// Good once, for `expires_in` seconds.
    #[oai(status = 200)]
    Ok(RawJson<schema::Ticket>),
}

#[OpenApi]
impl Tickets {
    /// Get a ticket for the WebSocket
    ///
    /// For clients that can send neither `Authorization` nor a subprotocol with their handshake: `ticket=` in the query of
    /// `/ws` stands for this call's token, once, within 30 seconds. The socket lives as long as that token. No body.
    #[oai(path = "/chat/ws-ticket", method = "post", operation_id = "issueTicket", tag = "Tag::Sockets")]
    async fn issue(
        &self,
        caller: Caller,
        request: &Request,
        state: Data<&Arc<AppState>>,
    ) -> Result<TicketResponse, ApiError> {
        let token = auth::token(request).map_err(|refused| Problem::from(&refused))?;
        let issued = ticket::issue(&caller.origin, token, &state.ticket_issuer).await?;
        Ok(TicketResponse::Ok(RawJson::encode(&issued)?))
    }
}
