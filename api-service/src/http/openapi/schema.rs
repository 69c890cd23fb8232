//! Schemas of requests and responses. The model encodes what is sent; a test below compares both.
//!
//! Fields that refer to another object have no doc comment: it would wrap the reference in an `allOf`, and client generators
//! would drop the model.

use poem_openapi::Object;
use poem_openapi::types::ParseFromJSON;
use serde_json::json;

use super::scalar::{
    Code, Content, Count, DevRole, Id, Location, NullableCursor, NullableId, NullableTimestamp, OptionalContact,
    OptionalId, OptionalSeq, OptionalText, OptionalTime, OptionalUser, OtherContact, OtherUser, Seq, TIME_EXAMPLE,
    Timestamp, UUID_EXAMPLE, User,
};

/// Gives an object an example. That it fits the object shows in `openapi.yaml`.
macro_rules! example {
    ($name:ident, $($json:tt)+) => {
        impl poem_openapi::types::Example for $name {
            fn example() -> Self {
                Self::parse_from_json(Some(json!($($json)+))).unwrap_or_default()
            }
        }
    };
}

/// A message to send. Exactly one of `sender_user_id` and `sender_contact_id`, and exactly one of
/// `receiver_user_id` and `receiver_contact_id`; contacts do not write to contacts.
#[derive(Default, Object)]
#[oai(deny_unknown_fields, example, skip_serializing_if_is_none)]
pub(crate) struct SendMessage {
    location_id: Location,
    sender_user_id: OptionalUser,
    sender_contact_id: OtherContact,
    receiver_user_id: OtherUser,
    receiver_contact_id: OptionalContact,
    /// 1 to 8,000 characters (Unicode scalar values), none of them U+0000. At least one shows something: it is neither
    /// `White_Space` nor `Default_Ignorable_Code_Point`.
    content: Content,
    /// Makes a retry safe: the same id and message again answer 200 with the first message.
    client_message_id: OptionalId,
}

example!(SendMessage, {
    "location_id": "loc1",
    "sender_user_id": "doc123",
    "receiver_contact_id": "pat456",
    "content": "Hello patient!",
});

/// A message as it is stored.
#[derive(Default, Object)]
#[oai(deny_unknown_fields, example, skip_serializing_if_is_none)]
pub(crate) struct Message {
    /// UUIDv7.
    id: Id,
    /// UUIDv5 of location and participants.
    conversation_id: Id,
    /// 1, 2, 3 … within the conversation, without gaps, in commit order.
    seq: Seq,
    location_id: Location,
    sender_user_id: OptionalUser,
    sender_contact_id: OtherContact,
    receiver_user_id: OtherUser,
    receiver_contact_id: OptionalContact,
    content: Content,
    client_message_id: NullableId,
    sent_at: Timestamp,
    /// When the receiver's client had it.
    delivered_at: NullableTimestamp,
    /// When the receiver read it.
    read_at: NullableTimestamp,
    is_read: bool,
}

example!(Message, {
    "id": UUID_EXAMPLE,
    "conversation_id": "d73d142b-e255-53a0-a91a-0514e07ecfcf",
    "seq": 1,
    "location_id": "loc1",
    "sender_user_id": "doc123",
    "receiver_contact_id": "pat456",
    "content": "Hello patient!",
    "sent_at": TIME_EXAMPLE,
    "is_read": false,
});

/// A page of a conversation, ascending by `seq`.
#[derive(Object)]
#[oai(deny_unknown_fields)]
pub(crate) struct History {
    conversation_id: Id,
    messages: Vec<Message>,
    /// Whether there are older messages; with `after`, newer ones.
    has_more: bool,
}

/// Messages to mark.
#[derive(Default, Object)]
#[oai(deny_unknown_fields, example)]
pub(crate) struct MarkMessages {
    /// 1 to 500 ids of messages that the caller received.
    #[oai(validator(min_items = "1", max_items = "500"))]
    message_ids: Vec<Id>,
}

example!(MarkMessages, { "message_ids": [UUID_EXAMPLE] });

/// A message that the caller received, as it stands now.
#[derive(Object)]
#[oai(deny_unknown_fields)]
pub(crate) struct Marked {
    id: Id,
    delivered_at: NullableTimestamp,
    read_at: NullableTimestamp,
}

/// What became of the ids.
#[derive(Object)]
#[oai(deny_unknown_fields)]
pub(crate) struct Marks {
    marked: Vec<Marked>,
    /// Ids that do not exist or are not the caller's to mark: the two look the same.
    not_found: Vec<Id>,
}

/// A row of the inbox.
#[derive(Object)]
#[oai(deny_unknown_fields)]
pub(crate) struct Conversation {
    conversation_id: Id,
    location_id: Location,
    user_id: User,
    contact_id: OptionalContact,
    peer_user_id: OtherUser,
    last_message: Message,
    /// Messages to the inbox's owner that it has not read.
    unread_count: Count,
    /// The `seq` of the first of them. Absent when all are read, and while the server does not know it.
    first_unread_seq: OptionalSeq,
    last_activity_at: Timestamp,
}

/// A page of the inbox, newest activity first.
#[derive(Object)]
#[oai(deny_unknown_fields)]
pub(crate) struct Inbox {
    conversations: Vec<Conversation>,
    /// Brings the next page; null on the last.
    next_cursor: NullableCursor,
}

/// Whether one participant is online. `user_id` or `contact_id` names it.
#[derive(Object)]
#[oai(deny_unknown_fields)]
pub(crate) struct Presence {
    user_id: OptionalUser,
    contact_id: OptionalContact,
    online: bool,
    /// Null while online, and when it is not known.
    last_seen_at: NullableTimestamp,
}

/// Those who were asked for and may be known of.
#[derive(Object)]
#[oai(deny_unknown_fields)]
pub(crate) struct Participants {
    participants: Vec<Presence>,
}

/// One thing wrong with the input.
#[derive(Object)]
pub(crate) struct InputError {
    /// JSON pointer into the body, or `?name` for a query parameter.
    pointer: String,
    /// What is wrong, in a whole sentence.
    detail: String,
}

/// RFC 9457 problem details: the body of every answer that is not a success.
#[derive(Object)]
pub(crate) struct Problem {
    r#type: String,
    /// The status in words.
    title: String,
    status: u16,
    /// What happened this time, and what would help.
    detail: String,
    code: Code,
    /// The answer's `X-Request-Id`: name it when asking for help.
    request_id: String,
    #[oai(default)]
    errors: Vec<InputError>,
}

/// What to revoke: one token by `jti`, or all tokens of `sub` issued before a given time.
#[derive(Default, Object)]
#[oai(deny_unknown_fields, example, skip_serializing_if_is_none)]
pub(crate) struct Revocation {
    /// The claim `jti` of one token.
    jti: OptionalText,
    /// The claim `sub` of the tokens, in any role; needs `issued_before`.
    sub: OptionalUser,
    /// Tokens of `sub` whose `iat` lies before this moment, and those without `iat`.
    issued_before: OptionalTime,
    /// With `jti`: the token's `exp`, when that is known. The revocation is forgotten then: do not name an earlier moment.
    expires_at: OptionalTime,
}

example!(Revocation, { "jti": UUID_EXAMPLE });

/// What stands for the caller's token in the query of `/ws`, once.
#[derive(Object)]
#[oai(deny_unknown_fields)]
pub(crate) struct Ticket {
    ticket: String,
    /// Seconds.
    expires_in: u32,
}

/// Whose token.
#[derive(Default, Object)]
#[oai(deny_unknown_fields, example)]
pub(crate) struct DevTokenRequest {
    sub: User,
    /// `user` or `contact`.
    role: DevRole,
    location_id: Location,
}

example!(DevTokenRequest, { "sub": "doc123", "role": "user", "location_id": "loc1" });

/// A token for the header `Authorization`.
#[derive(Object)]
#[oai(deny_unknown_fields)]
pub(crate) struct DevToken {
    /// `Authorization: Bearer TOKEN`.
    token: String,
    /// Seconds.
    expires_in: u32,
}

/// The service answers.
#[derive(Object)]
pub(crate) struct Health {
    status: String,
}

#[cfg(test)]
mod tests {
    use shared::contract::http::problem;

    use shared::contract::error_code::ProblemCode;

    use super::*;
    use crate::domain;
    use crate::model::message::tests::example;

    fn holds<T: ParseFromJSON>(value: &impl serde::Serialize) {
        let json = serde_json::to_value(value).unwrap();
        assert!(T::parse_from_json(Some(json.clone())).is_ok(), "{json}");
    }

    #[test]
    fn encoded_responses_match_their_schemas() {
        let message = example();
        holds::<Message>(&message);
        let conversation_id = message.new.conversation.id();
        holds::<History>(&domain::history::Page { conversation_id, messages: vec![message.clone()], has_more: true });
        let marked = crate::model::mark::Marked { id: message.id, delivered_at: Some(message.sent_at), read_at: None };
        holds::<Marks>(&domain::mark::Marks { marked: vec![marked], not_found: vec![message.id] });
        let row = |first_unread_seq: Option<i64>| crate::model::inbox::InboxRow {
            conversation: message.new.conversation.clone(),
            viewer: message.new.sender.clone(),
            unread_count: first_unread_seq.map_or(0, |_| 1),
            first_unread_seq,
            last_activity_at: message.sent_at,
            last_message: message.clone(),
        };
        let conversations = vec![row(Some(message.seq)), row(None)];
        holds::<Inbox>(&domain::inbox::Inbox { conversations, next_cursor: None });
        holds::<Ticket>(&domain::ticket::tests::example());
        let error = problem::InputError::field(ProblemCode::ContentEmpty, "content", "is empty");
        holds::<Problem>(&problem::Problem::of_input(vec![error]));
        holds::<Problem>(&problem::Problem::new(ProblemCode::InternalError, "x"));
    }

    #[test]
    fn schema_check_rejects_missing_and_extra_fields() {
        let mut json = serde_json::to_value(example()).unwrap();
        json["extra"] = json!(1);
        assert!(Message::parse_from_json(Some(json.clone())).is_err());
        json.as_object_mut().unwrap().remove("extra");
        json.as_object_mut().unwrap().remove("sent_at");
        assert!(Message::parse_from_json(Some(json)).is_err());
    }
}
