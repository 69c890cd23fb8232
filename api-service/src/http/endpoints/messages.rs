//! Sending messages, and reading the history.

use std::sync::Arc;

use poem::http::StatusCode;
use poem::web::Data;
use poem::{FromRequest, IntoResponse, Request, Response};
use poem_openapi::param::Query;
use poem_openapi::{ApiExtractor, ApiResponse, ExtractParamOptions, OpenApi};
use shared::contract::error_code::ProblemCode;
use shared::contract::http::problem::{InputError, Problem};
use shared::contract::ids::{LocationId, ParticipantId};
use shared::contract::participant::{Conversation, InvalidPair, Participant};

use crate::domain::history;
use crate::domain::send;
use crate::http::auth::{Caller, check_parameters, forbidden};
use crate::http::authorization;
use crate::http::body::{FieldReader, FromFields, JsonBody, RawJson, id, text, uuid};
use crate::http::error::{ApiError, ProblemBody, too_many_requests};
use crate::http::openapi::schema;
use crate::http::openapi::tag::Tag;
use crate::http::params::{ContactParam, LimitParam, LocationParam, OtherParam, SeqParam, UserParam};
use crate::model::message::{Content, NewMessage};
use crate::model::page::PagePosition;
use crate::model::send::{SendOutcome, SendRequest};
use crate::state::AppState;

pub(crate) struct Messages;

/// Path of sends.
pub(crate) const SEND_PATH: &str = "/chat/send";

/// Handles `POST /chat/send` without poem's route lookup, cookie jar and boxed futures. The steps equal those of the operation
/// below.
pub(crate) async fn send(request: Request) -> poem::Result<Response> {
    let (request, mut body) = request.split();
    let caller = Caller::authenticate(&request).await?;
    let Data(state) = <Data<&Arc<AppState>> as FromRequest>::from_request(&request, &mut body).await?;
    state
        .rate_limits
        .check_send(&caller.origin.principal)
        .map_err(|wait| poem::Error::from_response(too_many_requests(wait, "messages of this caller")))?;
    let body = SendJson::from_request(&request, &mut body, ExtractParamOptions::default()).await;
    let body = match check_parameters(&request) {
        Ok(()) => body?,
        // A caller without the right to send does not learn what is wrong with the query.
        Err(wrong) => return Err(check_sender_rights(&request, body).err().unwrap_or(wrong)),
    };
    Ok(Messages.send(caller, Data(state), body).await?.into_response())
}

/// 403 when the principal may not act as the sender of this body.
fn check_sender_rights(request: &Request, body: poem::Result<SendJson>) -> poem::Result<()> {
    match body {
        Ok(body) => {
            let NewMessage { conversation, sender, .. } = &body.0;
            authorization::check_sender(request, Some(conversation.location()), Some(sender)).map_err(forbidden)
        }
        Err(refused) if refused.status() == StatusCode::FORBIDDEN => Err(refused),
        Err(_) => Ok(()),
    }
}

/// The message is on disk, and certain to reach the sockets.
#[derive(ApiResponse)]
enum SendResponse {
    /// The message: on disk, and certain to be published.
    #[oai(status = 201)]
    Created(RawJson<schema::Message>),
    /// It was sent before with the same `client_message_id`: the first message, no second one.
    #[oai(status = 200)]
    Repeated(RawJson<schema::Message>),
    /// `client_message_id` was used for a different message.
    #[oai(status = 409)]
    IdReused(ProblemBody),
}

/// A page.
#[derive(ApiResponse)]
enum HistoryResponse {
    /// A page, ascending by `seq`. It ends at `limit`, or at about 512 KiB of content: `has_more` says whether there is more. A conversation without messages is an empty page.
    #[oai(status = 200)]
    Page(RawJson<schema::History>),
}

#[OpenApi]
impl Messages {
    /// Send a message
    ///
    /// Stores a message and publishes it to the sockets of both sides. With a `client_message_id`, a retry after a
    /// lost answer is safe: it never makes a second message.
    #[oai(path = "/chat/send", method = "post", operation_id = "sendMessage", tag = "Tag::Messages")]
    async fn send(
        &self,
        caller: Caller,
        state: Data<&Arc<AppState>>,
        body: SendJson,
    ) -> Result<SendResponse, ApiError> {
        let Caller { origin, audit } = caller;
        let message = Arc::new(body.0);
        let sent = send::send(&state.send_batcher, SendRequest { message: message.clone(), origin }).await;
        match sent {
            Ok(_) => audit.mark_recorded(),
            Err(_) => audit.set_conversation(&message.conversation, Some(&message.sender)),
        }
        Ok(match sent? {
            SendOutcome::Created(json) => SendResponse::Created(RawJson::from_string(json.into_inner())),
            SendOutcome::Repeated(json) => SendResponse::Repeated(RawJson::from_string(json.into_inner())),
            SendOutcome::IdReused => {
                let detail = "The `client_message_id` was used for a different message. Give this one a new id.";
                let problem = Problem::new(ProblemCode::ClientMessageIdReused, detail);
                SendResponse::IdReused(problem.into())
            }
        })
    }

    /// Read a conversation
    ///
    /// The newest page, or the page next to a cursor. The conversation is that of `user_id` and `contact_id`, or of
    /// `user_id` and `peer_user_id`.
    #[oai(path = "/chat/history", method = "get", operation_id = "getHistory", tag = "Tag::Messages")]
    #[allow(clippy::too_many_arguments, reason = "each is a query parameter of the published interface")]
    async fn history(
        &self,
        caller: Caller,
        state: Data<&Arc<AppState>>,
        location_id: Query<LocationParam>,
        user_id: Query<UserParam>,
        /// The patient of the conversation.
        contact_id: Query<Option<ContactParam>>,
        /// The other user, for a conversation of two users.
        peer_user_id: Query<Option<OtherParam>>,
        /// Most messages of the page.
        limit: Query<Option<LimitParam>>,
        /// Only messages before this `seq`: the next older page.
        before: Query<Option<SeqParam>>,
        /// Only messages after this `seq`: what came since. To load what was missed, give the largest `seq` without a hole
        /// before it: live events may arrive long after later ones.
        after: Query<Option<SeqParam>>,
    ) -> Result<HistoryResponse, ApiError> {
        let contact = contact_id.0.map(|param| param.0);
        let peer = peer_user_id.0.map(|param| param.0);
        let conversation = conversation(location_id.0.0, user_id.0.0, contact, peer)?;
        let position = match (before.0, after.0) {
            (None, None) => PagePosition::Latest,
            (Some(SeqParam(seq)), None) => PagePosition::Before(seq),
            (None, Some(SeqParam(seq))) => PagePosition::After(seq),
            (Some(_), Some(_)) => {
                return Err(conflict("?after", "The parameters `before` and `after` exclude each other.").into());
            }
        };
        let limit = limit.0.map_or(history::DEFAULT_LIMIT, |LimitParam(limit)| limit);
        caller.audit.set_conversation(&conversation, None);
        let page =
            history::history(&caller.origin, (&state.store, &state.audit_writer), &conversation, position, limit)
                .await?;
        caller.audit.mark_recorded();
        Ok(HistoryResponse::Page(RawJson::encode(&page)?))
    }
}

/// The conversation that a query names.
fn conversation(
    location: LocationId,
    user: ParticipantId,
    contact: Option<ParticipantId>,
    peer: Option<ParticipantId>,
) -> Result<Conversation, ApiError> {
    let wrong = |error| ApiError::from(Problem::of_input(vec![error]));
    let other = match (contact, peer) {
        (Some(contact), None) => Participant::contact(contact),
        (None, Some(peer)) => Participant::user(peer),
        (None, None) => {
            let detail = "The parameter `contact_id` or `peer_user_id` is missing.";
            return Err(wrong(InputError::new(ProblemCode::MissingParameter, "?contact_id", detail)));
        }
        (Some(_), Some(_)) => {
            let detail = "The parameters `contact_id` and `peer_user_id` exclude each other.";
            return Err(conflict("?peer_user_id", detail).into());
        }
    };
    Conversation::new(location, Participant::user(user), other)
        .map_err(|why| wrong(InputError::new(why.code(), "?peer_user_id", why.to_string())))
}

/// The problem of two parameters that exclude each other.
fn conflict(pointer: &str, detail: &str) -> Problem {
    Problem::of_input(vec![InputError::new(ProblemCode::ConflictingParameters, pointer, detail)])
}

type SendJson = JsonBody<NewMessage, schema::SendMessage>;

impl FromFields for NewMessage {
    fn from_fields(fields: &mut FieldReader) -> Option<Self> {
        let (location, sender) = Self::sender(fields);
        let receiver = exactly_one_participant(fields, "receiver_user_id", "receiver_contact_id");
        let content = fields.required("content", text).and_then(|text| {
            let content = Content::new(text);
            content.map_err(|why| fields.reject("content", why.code(), why)).ok()
        });
        let client_message_id = fields.optional("client_message_id", uuid);
        let (sender, receiver) = (sender?, receiver?);
        let conversation = Conversation::new(location?, sender.clone(), receiver.clone());
        let conversation = conversation
            .map_err(|why| {
                let pointer = format!("/{}", receiver_field(&why));
                fields.reject_with(InputError::new(why.code(), pointer, why.to_string()));
            })
            .ok();
        Some(Self {
            conversation: conversation?,
            sender,
            receiver,
            content: content?,
            client_message_id: client_message_id?,
        })
    }

    fn sender(fields: &mut FieldReader) -> (Option<LocationId>, Option<Participant>) {
        (fields.required("location_id", id), exactly_one_participant(fields, "sender_user_id", "sender_contact_id"))
    }
}

/// The field to blame for a pair that cannot have a conversation.
fn receiver_field(why: &InvalidPair) -> &'static str {
    match why {
        InvalidPair::TwoContacts => "receiver_contact_id",
        InvalidPair::Same => "receiver_user_id",
    }
}

/// Reads exactly one of two fields.
fn exactly_one_participant(fields: &mut FieldReader, user_field: &str, contact_field: &str) -> Option<Participant> {
    let user = fields.optional(user_field, id);
    let contact = fields.optional(contact_field, id);
    match (user?, contact?) {
        (Some(user), None) => Some(Participant::user(user)),
        (None, Some(contact)) => Some(Participant::contact(contact)),
        (None, None) => {
            fields.reject(user_field, ProblemCode::MissingField, format_args!("or `{contact_field}` is missing"));
            None
        }
        (Some(_), Some(_)) => {
            let detail =
                format!("The fields `{user_field}` and `{contact_field}` exclude each other. Give one of them.");
            fields.reject_with(InputError::new(ProblemCode::ConflictingFields, format!("/{contact_field}"), detail));
            None
        }
    }
}
