//! Compares messages with their audit rows. The row of a sent message contains an HMAC of its text, so a database owner cannot
//! change a text or invent a message unnoticed. Knows no SQL.

use std::fmt;

use shared::contract::ids::MessageId;
use uuid::Uuid;

use super::key::AuditKey;
use super::row::Row;

/// Action and outcome of the row of a new message.
const SEND: (&str, i16) = ("send", 201);

/// A message as the database holds it.
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the columns")]
pub struct StoredMessage {
    pub id: MessageId,
    pub conversation_id: Uuid,
    pub location_id: String,
    /// As audit rows write participants: `user:…`, `contact:…`.
    pub sender: String,
    pub receiver: String,
    pub text: StoredText,
}

/// The text of a message, as far as the verifier can read it.
#[derive(Clone, PartialEq, Eq)]
pub enum StoredText {
    /// Sealed, and opened.
    Decrypted(String),
    /// Stored as plain text.
    Plain(String),
    /// Stored as plain text although all content is encrypted.
    UnexpectedPlain,
    /// Sealed, and CONTENT_KEYS is not set.
    Sealed,
    /// Sealed, and does not open for this message.
    Unreadable,
}

/// A defect of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageDefect {
    /// The audit row exists, the message does not.
    Missing,
    /// The text differs from what was sent.
    TextMismatch,
    /// The conversation or its participants differ from what was sent.
    ParticipantMismatch,
    /// It has no audit row.
    NotSent,
    /// Plain text although all content of the database is encrypted.
    UnexpectedPlain,
    /// Sealed content that was altered, or belongs to another message.
    Unreadable,
}

impl MessageDefect {
    fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "is gone",
            Self::TextMismatch => "does not say what was sent",
            Self::ParticipantMismatch => "is not between those who it was sent by and to",
            Self::NotSent => "has no audit row: it was never sent",
            Self::UnexpectedPlain => "is in plain text, where all content is encrypted",
            Self::Unreadable => "does not open: it was altered, or is another message's",
        }
    }
}

/// A defect and the message that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageFinding {
    /// Its id.
    pub id: MessageId,
    /// The defect.
    pub defect: MessageDefect,
}

impl fmt::Display for MessageFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message {} {}", self.id, self.defect.as_str())
    }
}

/// The new message of a row, if it records a send.
#[must_use]
pub fn sent_message_id(row: &Row) -> Option<MessageId> {
    let is_send = (row.action.as_str(), row.outcome) == SEND;
    row.message_ids.as_ref().filter(|_| is_send).and_then(|ids| ids.first().copied())
}

/// Compares a message with its row; `key` is the key of that row. Rows from before texts were hashed bind only the participants.
#[must_use]
pub fn compare(key: &AuditKey, row: &Row, stored: Option<&StoredMessage>) -> Option<MessageDefect> {
    let Some(stored) = stored else { return Some(MessageDefect::Missing) };
    let sender = row.acts_for.as_deref().unwrap_or(&row.actor);
    let is_between = row.conversation_id == Some(stored.conversation_id)
        && row.location_id.as_deref() == Some(stored.location_id.as_str())
        && sender == stored.sender
        && row.counterpart.as_deref() == Some(stored.receiver.as_str());
    if !is_between {
        return Some(MessageDefect::ParticipantMismatch);
    }
    match &stored.text {
        StoredText::UnexpectedPlain => Some(MessageDefect::UnexpectedPlain),
        StoredText::Unreadable => Some(MessageDefect::Unreadable),
        StoredText::Sealed => None,
        StoredText::Decrypted(text) | StoredText::Plain(text) => {
            let mac = row.text_mac.as_ref()?;
            (*mac != key.text_mac(stored.id, text)).then_some(MessageDefect::TextMismatch)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::contract::audit::{Action, AuditEntry};
    use shared::contract::participant::Conversation;

    #[test]
    fn message_is_compared_in_every_recorded_field() {
        let [key, other] = ["x", "y"].map(|letter| AuditKey::new(&letter.repeat(32).parse().unwrap()));
        let [user, contact] = ["user:doc", "contact:pat"].map(|text| text.parse().unwrap());
        let conversation = Conversation::new("loc1".parse().unwrap(), user, contact).unwrap();
        let entry = |who: &str, acting: &str| {
            let entry = AuditEntry::new(who.parse().unwrap(), Action::Send, 201);
            let entry = entry.in_conversation(&conversation, Some(&acting.parse().unwrap()));
            AuditEntry { message_ids: vec![Uuid::from_u128(7)], ..entry }
        };
        let row = Row {
            text_mac: Some(key.text_mac(Uuid::from_u128(7), "hello")),
            ..Row::from(&entry("user:doc", "user:doc"))
        };
        assert_eq!(sent_message_id(&row), Some(Uuid::from_u128(7)));
        for other in [Row { outcome: 200, ..row.clone() }, Row { action: "mark.read".to_owned(), ..row.clone() }] {
            assert_eq!(sent_message_id(&other), None);
        }
        let good = StoredMessage {
            id: Uuid::from_u128(7),
            conversation_id: conversation.id(),
            location_id: "loc1".to_owned(),
            sender: "user:doc".to_owned(),
            receiver: "contact:pat".to_owned(),
            text: StoredText::Plain("hello".to_owned()),
        };
        let opened = StoredMessage { text: StoredText::Decrypted("hello".to_owned()), ..good.clone() };
        let sealed = StoredMessage { text: StoredText::Sealed, ..good.clone() };
        for stored in [&good, &opened, &sealed] {
            assert_eq!(compare(&key, &row, Some(stored)), None);
        }
        assert_eq!(compare(&key, &row, None), Some(MessageDefect::Missing));
        for (stored, defect) in [
            (StoredMessage { text: StoredText::Plain("hell".to_owned()), ..good.clone() }, MessageDefect::TextMismatch),
            (
                StoredMessage { text: StoredText::Decrypted("hell".to_owned()), ..good.clone() },
                MessageDefect::TextMismatch,
            ),
            (StoredMessage { text: StoredText::UnexpectedPlain, ..good.clone() }, MessageDefect::UnexpectedPlain),
            (StoredMessage { text: StoredText::Unreadable, ..good.clone() }, MessageDefect::Unreadable),
            (StoredMessage { sender: "user:other".to_owned(), ..good.clone() }, MessageDefect::ParticipantMismatch),
            (
                StoredMessage { receiver: "contact:other".to_owned(), ..good.clone() },
                MessageDefect::ParticipantMismatch,
            ),
            (StoredMessage { location_id: "loc2".to_owned(), ..good.clone() }, MessageDefect::ParticipantMismatch),
            (StoredMessage { conversation_id: Uuid::nil(), ..good.clone() }, MessageDefect::ParticipantMismatch),
        ] {
            assert_eq!(compare(&key, &row, Some(&stored)), Some(defect));
        }
        assert_eq!(compare(&other, &row, Some(&good)), Some(MessageDefect::TextMismatch));
        // A service sent it on behalf of the patient.
        let row = Row::from(&entry("service:ehr", "contact:pat"));
        let reversed = StoredMessage { sender: good.receiver.clone(), receiver: good.sender.clone(), ..good.clone() };
        assert_eq!(compare(&key, &row, Some(&reversed)), None);
        assert_eq!(compare(&key, &row, Some(&good)), Some(MessageDefect::ParticipantMismatch));
    }
}
