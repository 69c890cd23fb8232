//! Who opens a socket: a token in a header or a subprotocol, or a ticket in the query.

use hyper::Request;
use hyper::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use shared::contract::error_code::ProblemCode;
use shared::contract::http::request::RequestContext;
use shared::contract::ticket::Ticket;
use shared::contract::token::{Principal, TokenError, bearer};

use super::error::HttpError;
use super::headers::{header, list_members};
use super::query;
use crate::auth::RedeemError;
use crate::state::AppState;

/// A subprotocol that carries a token. Browsers cannot set the `Authorization` header.
pub(super) const BEARER_SUBPROTOCOL: &str = "bearer.";

/// What a client authenticates with.
pub(super) enum Credential<'a> {
    Token(&'a str),
    Ticket(Ticket),
}

/// Finds the credential: a token in a header or a subprotocol, or a ticket in the query.
pub(super) fn credential<B>(request: &Request<B>) -> Result<Credential<'_>, HttpError> {
    let headers = request.headers();
    let ticket = query::ticket(request.uri().query().unwrap_or_default())?;
    let in_subprotocol =
        list_members(headers, &SEC_WEBSOCKET_PROTOCOL).find_map(|name| name.strip_prefix(BEARER_SUBPROTOCOL));
    match (ticket, in_subprotocol) {
        (Some(_), in_subprotocol) if in_subprotocol.is_some() || headers.contains_key(AUTHORIZATION) => {
            Err(HttpError::invalid_handshake("The handshake has a ticket and a token. Send one of them."))
        }
        (Some(ticket), _) => ticket.parse().map(Credential::Ticket).map_err(|_| HttpError::invalid_ticket()),
        (None, in_subprotocol) => {
            let token = bearer(header(headers, &AUTHORIZATION)).ok().or(in_subprotocol);
            token.map(Credential::Token).ok_or_else(HttpError::missing_token)
        }
    }
}

/// Verifies the credential. A ticket is consumed here, even if the handshake fails later.
pub(super) async fn authenticate(
    app: &AppState,
    credential: Credential<'_>,
    context: &RequestContext,
) -> Result<Principal, HttpError> {
    let redeemed;
    let token = match &credential {
        Credential::Token(token) => *token,
        Credential::Ticket(ticket) => {
            redeemed = app.tickets.redeem(ticket).await.map_err(|error| match error {
                RedeemError::Unknown => HttpError::invalid_ticket(),
                RedeemError::Redis(error) => {
                    tracing::warn!(request_id = &*context.request_id, %error, "ticket redemption failed");
                    let detail =
                        "Tickets cannot be redeemed at present. Try again with a new ticket, or with the token.";
                    HttpError::unavailable(ProblemCode::TicketsUnavailable, detail)
                }
            })?;
            redeemed.expose()
        }
    };
    let verify = || app.verifier.verify(token);
    let verified = match verify() {
        // The issuer may have published a new key. Refresh once, then verify again.
        Err(TokenError::UnknownKey) if app.verifier.keys().refresh_now().await => verify(),
        verified => verified,
    };
    verified.map_err(|error| HttpError::invalid_token(&error))
}
