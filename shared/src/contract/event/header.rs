//! The first line of a payload: what a gateway must know of an event.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use super::Cursor;
use crate::contract::ids::{ConversationId, MessageId};
use crate::contract::participant::Participant;

/// A payload or log entry that is not an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an event")]
pub struct InvalidEvent;

/// Whose client proves the delivery of which message by answering the Ping sent after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The receiver.
    pub participant: Participant,
    /// The message.
    pub message_id: MessageId,
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.participant, self.message_id)
    }
}

impl FromStr for Recipient {
    type Err = InvalidEvent;

    fn from_str(text: &str) -> Result<Self, InvalidEvent> {
        let (to, id) = text.split_once(' ').ok_or(InvalidEvent)?;
        Ok(Self {
            participant: to.parse().map_err(|_| InvalidEvent)?,
            message_id: Uuid::parse_str(id).map_err(|_| InvalidEvent)?,
        })
    }
}

/// What a gateway must know of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Header {
    /// It stands in the log, at this place.
    Logged {
        /// The place.
        cursor: Cursor,
        /// The place before it; `None` when it opened the log.
        previous: Option<Cursor>,
        /// Whose delivery of what it is, for messages.
        recipient: Option<Recipient>,
    },
    /// It is outside the log, and of no use later.
    Ephemeral {
        /// Whose doing it is; this participant's own sockets do not get it.
        from: Participant,
    },
    /// Redis refuses the events of this conversation at the moment, says an API service: they wait. Or no longer.
    PublishStatus {
        /// Which API service says so.
        instance: Uuid,
        /// Whether what waited has been published.
        is_recovered: bool,
    },
    /// A conversation's row of an inbox. It replaces all earlier rows of that conversation.
    InboxRow {
        /// Which.
        conversation: ConversationId,
    },
}

impl FromStr for Header {
    type Err = InvalidEvent;

    fn from_str(text: &str) -> Result<Self, InvalidEvent> {
        let text = text.split_once('\t').map_or(text, |(text, _request)| text);
        let (place, rest) = text.split_once(' ').ok_or(InvalidEvent)?;
        if place == "*" {
            let from = rest.parse().map_err(|_| InvalidEvent)?;
            return Ok(Self::Ephemeral { from });
        }
        if place == "~" {
            let (instance, is_recovered) = rest.split_once(' ').ok_or(InvalidEvent)?;
            let instance = Uuid::parse_str(instance).map_err(|_| InvalidEvent)?;
            return match is_recovered {
                "degraded" => Ok(Self::PublishStatus { instance, is_recovered: false }),
                "recovered" => Ok(Self::PublishStatus { instance, is_recovered: true }),
                _ => Err(InvalidEvent),
            };
        }
        if place == "+" {
            return Ok(Self::InboxRow { conversation: Uuid::parse_str(rest).map_err(|_| InvalidEvent)? });
        }
        let (previous, recipient) = match rest.split_once(' ') {
            Some((previous, recipient)) => (previous, Some(recipient)),
            None => (rest, None),
        };
        let cursor = |text: &str| text.parse::<Cursor>().map_err(|_| InvalidEvent);
        Ok(Self::Logged {
            cursor: cursor(place)?,
            previous: if previous == "-" { None } else { Some(cursor(previous)?) },
            recipient: recipient.map(str::parse).transpose()?,
        })
    }
}
