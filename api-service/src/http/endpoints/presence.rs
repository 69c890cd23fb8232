//! Presence of participants.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::param::Query;
use poem_openapi::{ApiResponse, OpenApi};
use shared::contract::error_code::ProblemCode;
use shared::contract::http::problem::Problem;
use shared::contract::participant::Participant;

use crate::domain::presence;
use crate::http::auth::Caller;
use crate::http::body::RawJson;
use crate::http::error::ApiError;
use crate::http::openapi::schema;
use crate::http::openapi::tag::Tag;
use crate::http::params::{ContactParam, LocationParam, OtherParam};
use crate::state::AppState;

pub(crate) struct Presence;

/// Who is online.
#[derive(ApiResponse)]
enum PresenceResponse {
    /// Those of them that the caller may know of, users first.
    #[oai(status = 200)]
    Participants(RawJson<schema::Participants>),
}

#[OpenApi]
impl Presence {
    /// See who is online
    ///
    /// For 1 to 100 participants who share a conversation with the caller. Others are omitted, so the response does not reveal
    /// who exists. A `service` token may ask for all participants of its locations. A participant is online while any of its
    /// sockets is open, and for a few seconds after that. Sockets of a conversation get a `presence` frame at each change.
    #[oai(path = "/chat/presence", method = "get", operation_id = "getPresence", tag = "Tag::Conversations")]
    async fn get(
        &self,
        caller: Caller,
        state: Data<&Arc<AppState>>,
        location_id: Query<LocationParam>,
        /// Users; may be given several times.
        user_id: Query<Option<Vec<OtherParam>>>,
        /// Contacts; may be given several times.
        contact_id: Query<Option<Vec<ContactParam>>>,
    ) -> Result<PresenceResponse, ApiError> {
        let users = user_id.0.into_iter().flatten().map(|OtherParam(id)| Participant::user(id));
        let contacts = contact_id.0.into_iter().flatten().map(|ContactParam(id)| Participant::contact(id));
        let location = location_id.0.0;
        caller.audit.set_scope(&location, None);
        let services = (&state.store, &state.audit_writer, &state.presence);
        let participants: Vec<_> = users.chain(contacts).collect();
        let charged = state.rate_limits.charge_participants(&caller.origin.principal, participants.len());
        charged.map_err(|_wait| {
            let detail = "The caller has asked for too many participants. Try again in a second, or ask for fewer.";
            Problem::new(ProblemCode::RateLimited, detail)
        })?;
        let participants = presence::presence(&caller.origin, services, &location, participants).await?;
        caller.audit.mark_recorded();
        Ok(PresenceResponse::Participants(RawJson::encode(&participants)?))
    }
}
