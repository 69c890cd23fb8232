//! The inbox.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::param::Query;
use poem_openapi::{ApiResponse, OpenApi};
use shared::contract::participant::Participant;

use crate::domain::{history, inbox};
use crate::http::auth::Caller;
use crate::http::body::RawJson;
use crate::http::error::ApiError;
use crate::http::openapi::schema;
use crate::http::openapi::tag::Tag;
use crate::http::params::{CursorParam, LimitParam, LocationParam, OtherParam};
use crate::state::AppState;

pub(crate) struct Conversations;

/// A page of the inbox.
#[derive(ApiResponse)]
enum InboxResponse {
    /// A page of the inbox, newest activity first. It ends at `limit`, or at about 512 KiB of content. A conversation with
    /// new activity moves to the front, so a client that is past the first page misses the move: read the first page again,
    /// or open an inbox socket.
    #[oai(status = 200)]
    Page(RawJson<schema::Inbox>),
}

#[OpenApi]
impl Conversations {
    /// List conversations
    ///
    /// The caller's inbox in a location, with the last message and the number of unread ones of each conversation. A
    /// `service` token says with `user_id` or `contact_id` whose inbox it wants.
    #[oai(path = "/chat/conversations", method = "get", operation_id = "listConversations", tag = "Tag::Conversations")]
    #[allow(clippy::too_many_arguments, reason = "each is a query parameter of the published interface")]
    async fn list(
        &self,
        caller: Caller,
        state: Data<&Arc<AppState>>,
        location_id: Query<LocationParam>,
        /// Whose inbox, for `service` tokens.
        user_id: Query<Option<OtherParam>>,
        /// Whose inbox, for `service` tokens.
        contact_id: Query<Option<OtherParam>>,
        /// Most conversations of the page.
        limit: Query<Option<LimitParam>>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<CursorParam>>,
    ) -> Result<InboxResponse, ApiError> {
        let user = user_id.0.map(|OtherParam(id)| Participant::user(id));
        let contact = contact_id.0.map(|OtherParam(id)| Participant::contact(id));
        let whose = inbox::at_most_one(user, contact)?;
        let limit = limit.0.map_or(history::DEFAULT_LIMIT, |LimitParam(limit)| limit);
        let cursor = cursor.0.map(|CursorParam(cursor)| cursor);
        let location = location_id.0.0;
        caller.audit.set_scope(&location, whose.as_ref());
        let services = (&state.store, &state.audit_writer);
        let page = inbox::inbox(&caller.origin, services, &location, whose, cursor, limit).await?;
        caller.audit.mark_recorded();
        Ok(InboxResponse::Page(RawJson::encode(&page)?))
    }
}
