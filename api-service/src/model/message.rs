//! A message and its JSON. `POST /chat/send` returns the same bytes that sockets receive.

use std::sync::Arc;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use shared::contract::error_code::ProblemCode;
use shared::contract::event::{OutgoingEvent, Recipient};
use shared::contract::ids::MessageId;
use shared::contract::participant::{Conversation, Participant};
use shared::kit::timestamp::timestamp;
use time::OffsetDateTime;
use uuid::Uuid;

use super::blank::is_blank;

/// Maximum characters (Unicode scalar values) of a message.
pub const MAX_CONTENT_CHARS: usize = 8_000;

/// The current time in whole microseconds, as PostgreSQL stores it.
#[must_use]
pub fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_microsecond(now.microsecond()).unwrap_or(now)
}

/// An authorized and valid message that is not stored yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    /// The conversation.
    pub conversation: Conversation,
    /// One participant of the conversation.
    pub sender: Participant,
    /// The other participant.
    pub receiver: Participant,
    /// 1 to [`MAX_CONTENT_CHARS`] characters, without U+0000, and not blank.
    pub content: Content,
    /// Makes a retry safe.
    pub client_message_id: Option<Uuid>,
}

/// Why a text is no content. The message follows the name of the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// It has no character.
    #[error("is empty")]
    Empty,
    /// It has more than [`MAX_CONTENT_CHARS`] characters.
    #[error("is longer than 8,000 characters")]
    TooLong,
    /// It contains U+0000.
    #[error("contains U+0000, which cannot be stored")]
    Null,
    /// No character shows something.
    #[error("has only spaces and invisible characters")]
    Blank,
}

impl ContentError {
    /// Its code.
    #[must_use]
    pub fn code(self) -> ProblemCode {
        match self {
            Self::Empty | Self::Blank => ProblemCode::ContentEmpty,
            Self::TooLong => ProblemCode::ContentTooLong,
            Self::Null => ProblemCode::ContentInvalid,
        }
    }
}

/// The text of a message. It is protected health information, so `Debug` redacts it.
#[derive(Clone, PartialEq, Eq)]
pub struct Content(String);

impl Content {
    /// Text that is already valid: from the database, or checked by [`Content::new`].
    #[must_use]
    pub fn trusted(text: String) -> Self {
        Self(text)
    }

    /// Validates text from a client.
    ///
    /// # Errors
    /// [`ContentError`]
    pub fn new(text: String) -> Result<Self, ContentError> {
        // A character has at most four bytes, so long texts are rejected without counting.
        if text.is_empty() {
            Err(ContentError::Empty)
        } else if text.len() > 4 * MAX_CONTENT_CHARS || text.chars().count() > MAX_CONTENT_CHARS {
            Err(ContentError::TooLong)
        } else if text.contains('\0') {
            Err(ContentError::Null)
        } else if is_blank(&text) {
            Err(ContentError::Blank)
        } else {
            Ok(Self(text))
        }
    }

    #[must_use]
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A stored message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// UUIDv7.
    pub id: MessageId,
    /// What was sent.
    pub new: Arc<NewMessage>,
    /// 1, 2, 3 … within the conversation, without gaps, in commit order.
    pub seq: i64,
    /// Never earlier than that of a lower `seq`.
    pub sent_at: OffsetDateTime,
    /// When the receiver's client had received it.
    pub delivered_at: Option<OffsetDateTime>,
    /// When the receiver had read it.
    pub read_at: Option<OffsetDateTime>,
}

impl Message {
    /// The JSON that clients receive.
    ///
    /// # Errors
    /// When serde_json fails, which it does not for these types.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// The event for the sockets of both participants, with the message's JSON.
    #[must_use]
    pub fn event(&self, json: &str) -> OutgoingEvent {
        OutgoingEvent::message(
            json,
            Recipient { participant: self.new.receiver.clone(), message_id: self.id },
            self.seq,
        )
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let NewMessage { conversation, sender, receiver, content, client_message_id } = &*self.new;
        let mut fields = serializer.serialize_struct("Message", 13)?;
        fields.serialize_field("id", &self.id)?;
        fields.serialize_field("conversation_id", &conversation.id())?;
        fields.serialize_field("seq", &self.seq)?;
        fields.serialize_field("location_id", conversation.location())?;
        for (person, user_field, contact_field) in
            [(sender, "sender_user_id", "sender_contact_id"), (receiver, "receiver_user_id", "receiver_contact_id")]
        {
            let field = if person.user_id().is_some() { user_field } else { contact_field };
            fields.serialize_field(field, &person.id)?;
        }
        fields.serialize_field("content", content.as_str())?;
        fields.serialize_field("client_message_id", client_message_id)?;
        fields.serialize_field("sent_at", &timestamp(self.sent_at))?;
        fields.serialize_field("delivered_at", &self.delivered_at.map(timestamp))?;
        fields.serialize_field("read_at", &self.read_at.map(timestamp))?;
        fields.serialize_field("is_read", &self.read_at.is_some())?;
        fields.end()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// The message of the contract's example.
    pub(crate) fn example() -> Message {
        let sender: Participant = "user:doc123".parse().unwrap();
        let receiver: Participant = "contact:pat456".parse().unwrap();
        Message {
            id: Uuid::from_u128(7),
            new: Arc::new(NewMessage {
                conversation: Conversation::new("loc1".parse().unwrap(), sender.clone(), receiver.clone()).unwrap(),
                sender,
                receiver,
                content: Content::new("Hello patient!".to_owned()).unwrap(),
                client_message_id: None,
            }),
            seq: 1,
            sent_at: time::macros::datetime!(2026-11-22 12:00:00.123456 UTC),
            delivered_at: None,
            read_at: None,
        }
    }

    #[test]
    fn message_json_matches_contract() {
        let message = example();
        let json: Value = serde_json::from_str(&message.to_json().unwrap()).unwrap();
        assert_eq!(
            json,
            json!({
                "id": message.id, "conversation_id": message.new.conversation.id(), "seq": 1, "location_id": "loc1",
                "sender_user_id": "doc123", "receiver_contact_id": "pat456", "content": "Hello patient!",
                "client_message_id": null, "sent_at": "2026-11-22T12:00:00.123456Z",
                "delivered_at": null, "read_at": null, "is_read": false
            })
        );
    }

    #[test]
    fn timestamps_have_microseconds() {
        assert_eq!(timestamp(time::macros::datetime!(2026-01-02 3:04:05 UTC)), "2026-01-02T03:04:05.000000Z");
        assert_eq!(now().nanosecond() % 1_000, 0);
    }

    #[test]
    fn content_has_1_to_8000_visible_characters() {
        for good in ["a", "\u{1F600}", "line\nbreak", &"\u{1F600}".repeat(8_000)] {
            assert!(Content::new(good.to_owned()).is_ok());
        }
        for (bad, error) in [
            ("", ContentError::Empty),
            (" ", ContentError::Blank),
            ("\u{200B}", ContentError::Blank),
            ("\n\u{AD}\u{3164}", ContentError::Blank),
            ("a\0b", ContentError::Null),
            (&"a".repeat(8_001), ContentError::TooLong),
            (&"\u{1F600}".repeat(8_001), ContentError::TooLong),
            (&"a".repeat(100_000), ContentError::TooLong),
        ] {
            assert_eq!(Content::new(bad.to_owned()).err(), Some(error));
        }
    }

    #[test]
    fn content_is_redacted_in_debug() {
        assert!(!format!("{:?}", example()).contains("Hello"));
    }
}
