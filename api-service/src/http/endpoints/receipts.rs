//! Marking messages as delivered or read.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, OpenApi};
use shared::contract::ids::MessageId;
use shared::contract::receipt::{MAX_MESSAGE_IDS, ReceiptKind};

use crate::domain::mark;
use crate::http::auth::{Caller, ParticipantCaller};
use crate::http::body::{FieldReader, FromFields, JsonBody, RawJson};
use crate::http::error::ApiError;
use crate::http::openapi::schema;
use crate::http::openapi::tag::Tag;
use crate::state::AppState;

pub(crate) struct Receipts;

/// What became of the ids.
#[derive(ApiResponse)]
enum MarkResponse {
    /// What became of the ids. Marking again changes nothing: the first time stands.
    #[oai(status = 200)]
    Marked(RawJson<schema::Marks>),
}

#[OpenApi]
impl Receipts {
    /// Mark messages as read
    ///
    /// Only messages that the token's participant received. Read implies delivered. The sender's sockets hear of it.
    #[oai(path = "/chat/read", method = "put", operation_id = "markRead", tag = "Tag::Receipts")]
    async fn read(
        &self,
        ParticipantCaller(caller): ParticipantCaller,
        state: Data<&Arc<AppState>>,
        body: MarkJson,
    ) -> Result<MarkResponse, ApiError> {
        mark(caller, &state, body, ReceiptKind::Read).await
    }

    /// Mark messages as delivered
    ///
    /// For clients without a WebSocket: sockets prove delivery by themselves. Only messages that the token's
    /// participant received.
    #[oai(path = "/chat/delivered", method = "put", operation_id = "markDelivered", tag = "Tag::Receipts")]
    async fn delivered(
        &self,
        ParticipantCaller(caller): ParticipantCaller,
        state: Data<&Arc<AppState>>,
        body: MarkJson,
    ) -> Result<MarkResponse, ApiError> {
        mark(caller, &state, body, ReceiptKind::Delivered).await
    }
}

async fn mark(caller: Caller, state: &AppState, body: MarkJson, kind: ReceiptKind) -> Result<MarkResponse, ApiError> {
    let MarkBody(message_ids) = body.0;
    let marks = mark::mark(&caller.origin, &state.store, &state.events, kind, message_ids).await?;
    caller.audit.mark_recorded();
    Ok(MarkResponse::Marked(RawJson::encode(&marks)?))
}

struct MarkBody(Vec<MessageId>);

type MarkJson = JsonBody<MarkBody, schema::MarkMessages>;

impl FromFields for MarkBody {
    fn from_fields(fields: &mut FieldReader) -> Option<Self> {
        fields.uuids("message_ids", MAX_MESSAGE_IDS).map(Self)
    }
}
