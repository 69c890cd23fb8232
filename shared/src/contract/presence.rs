//! Who is online, as gateways, the API service and clients tell each other.
//!
//! A location's channel carries `! PARTICIPANT 1` when a participant comes online and `! PARTICIPANT 0 SEEN` when it goes
//! offline, with that time in milliseconds since 1970. It carries `= CONVERSATION` in answer to a [`ConversationCheck`].

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::contract::event::InvalidEvent;
use crate::contract::ids::{ConversationId, LocationId};
use crate::contract::participant::Participant;
use crate::kit::timestamp::timestamp;

/// Whether a participant is online.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It has a socket.
    Online,
    /// It has none, and had its last one until then, if that is still known.
    Offline(Option<OffsetDateTime>),
}

impl Presence {
    /// Whether it has a socket.
    #[must_use]
    pub fn is_online(self) -> bool {
        self == Self::Online
    }

    /// When it was seen last, as clients read it; `None` while it is online, or when that is not known.
    #[must_use]
    pub fn last_seen_at(self) -> Option<String> {
        match self {
            Self::Offline(Some(at)) => Some(timestamp(at)),
            Self::Online | Self::Offline(None) => None,
        }
    }

    /// From what [`crate::contract::redis::presence::PRESENCE_LOOKUP`] has answered.
    #[must_use]
    pub fn from_lookup(online: i64, seen: i64) -> Self {
        if online == 1 { Self::Online } else { Self::Offline(moment(seen)) }
    }

    /// The `presence` frame that sockets receive.
    #[must_use]
    pub fn frame(self, participant: &Participant) -> String {
        let seen = self.last_seen_at().map_or("null".to_owned(), |at| format!("\"{at}\""));
        // Neither holds anything that JSON would escape.
        format!(
            r#"{{"type":"presence","{}_id":"{}","online":{},"last_seen_at":{seen}}}"#,
            participant.kind.as_str(),
            participant.id,
            self.is_online()
        )
    }
}

fn moment(millis: i64) -> Option<OffsetDateTime> {
    let nanos = i128::from(millis).checked_mul(1_000_000).filter(|nanos| *nanos >= 0)?;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()
}

/// A notice on a location's channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A participant came online or went offline.
    Changed(Participant, Presence),
    /// This conversation has a message, so its two participants may see each other's presence.
    ConversationExists(ConversationId),
}

impl Notice {
    /// Reads what came on a location's channel.
    ///
    /// # Errors
    /// [`InvalidEvent`]
    pub fn parse(payload: &[u8]) -> Result<Self, InvalidEvent> {
        let text = std::str::from_utf8(payload).map_err(|_| InvalidEvent)?;
        let line = text.strip_suffix('\n').ok_or(InvalidEvent)?;
        let mut words = line.split(' ');
        let mut next = || words.next().ok_or(InvalidEvent);
        let notice = match next()? {
            "=" => Self::ConversationExists(Uuid::parse_str(next()?).map_err(|_| InvalidEvent)?),
            "!" => {
                let participant = next()?.parse().map_err(|_| InvalidEvent)?;
                let presence = match next()? {
                    "1" => Presence::Online,
                    "0" => Presence::Offline(Some(next()?.parse().ok().and_then(moment).ok_or(InvalidEvent)?)),
                    _ => return Err(InvalidEvent),
                };
                Self::Changed(participant, presence)
            }
            _ => return Err(InvalidEvent),
        };
        if words.next().is_some() { Err(InvalidEvent) } else { Ok(notice) }
    }

    /// The answer to a [`ConversationCheck`].
    #[must_use]
    pub fn conversation_exists(conversation: ConversationId) -> String {
        format!("= {conversation}\n")
    }
}

/// A gateway's question to the API service before it shows presence: does this conversation have a message? Without one there
/// is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConversationCheck {
    /// Where.
    pub location: LocationId,
    /// In which.
    pub conversation: ConversationId,
}

impl ConversationCheck {
    /// As it travels; `None` never.
    #[must_use]
    pub fn encode(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }

    /// Reads what a gateway has asked.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn doctor() -> Participant {
        "user:doc123".parse().unwrap()
    }

    #[test]
    fn online_participant_has_no_last_seen_time() {
        assert_eq!(
            Presence::Online.frame(&doctor()),
            r#"{"type":"presence","user_id":"doc123","online":true,"last_seen_at":null}"#
        );
        assert_eq!(
            Presence::from_lookup(0, 1_790_000_000_123).frame(&"contact:pat456".parse().unwrap()),
            r#"{"type":"presence","contact_id":"pat456","online":false,"last_seen_at":"2026-09-21T14:13:20.123000Z"}"#
        );
        assert_eq!(Presence::from_lookup(0, -1), Presence::Offline(None));
        assert_eq!(Presence::from_lookup(1, -1), Presence::Online);
    }

    #[test]
    fn incomplete_notices_are_rejected() {
        let read = |text: &str| Notice::parse(text.as_bytes());
        assert_eq!(read("! user:doc123 1\n"), Ok(Notice::Changed(doctor(), Presence::Online)));
        let gone = Presence::Offline(moment(5));
        assert_eq!(read("! user:doc123 0 5\n"), Ok(Notice::Changed(doctor(), gone)));
        let id = Uuid::from_u128(7);
        assert_eq!(read(&Notice::conversation_exists(id)), Ok(Notice::ConversationExists(id)));
        for text in [
            "",
            "\n",
            "! user:doc123 1",
            "! user:doc123 0\n",
            "! user:doc123 0 -5\n",
            "! user:doc123 2\n",
            "! doc123 1\n",
            "! user:doc123 1 5\n",
            "= x\n",
            "=\n",
            "? user:doc123 1\n",
            "! user:doc123 0 99999999999999999999\n",
        ] {
            assert_eq!(read(text), Err(InvalidEvent), "{text:?}");
        }
    }

    #[test]
    fn conversation_checks_survive_a_round_trip() {
        let question = ConversationCheck { location: "loc1".parse().unwrap(), conversation: Uuid::from_u128(7) };
        assert_eq!(ConversationCheck::decode(&question.encode().unwrap()), Some(question));
        for text in ["", "{}", r#"{"location":"a b","conversation":"00000000-0000-0000-0000-000000000007"}"#] {
            assert_eq!(ConversationCheck::decode(text), None);
        }
    }

    proptest! {
        #[test]
        fn notice_parser_never_panics(payload: Vec<u8>, text in "[!=] [a-z:]{0,12} [01] ?[0-9-]{0,25}\n?") {
            let _ = Notice::parse(&payload);
            let _ = Notice::parse(text.as_bytes());
        }
    }
}
