//! Who takes part: pairs of a doctor and a patient with good tokens, and what they say to each other.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use shared::contract::event::{OutgoingEvent, Recipient};
use shared::contract::ids::LocationId;
use shared::contract::participant::{Conversation, Participant, ParticipantKind};
use shared::contract::redis::keys::Channel;
use shared::contract::token::{Role, issue};
use shared::kit::env::Secret;

use crate::stamp::{self, ID_PLACE};

/// Signs the tokens of a measurement.
pub(crate) const JWT_SECRET: &str = "development-secret-of-the-benchmark";
/// The only location.
pub(crate) const LOCATION: &str = "bench";
/// What every message says behind its stamp.
pub(crate) const WORDS: &str = " How do you feel today? Your results are in, and they look good.";

/// A doctor and a patient, whose conversation is the `number`th.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) doctor: String,
    pub(crate) patient: String,
    conversation: Conversation,
}

/// One side of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Side<'a> {
    pub(crate) location: &'a str,
    pub(crate) kind: ParticipantKind,
    pub(crate) name: &'a str,
}

impl Side<'_> {
    /// The field of a message that names it as its `sender` or `receiver`.
    pub(crate) fn field(&self, part: &str) -> String {
        let kind = if self.kind == ParticipantKind::User { "user" } else { "contact" };
        format!("{part}_{kind}_id")
    }
}

/// A fresh token of a participant, for longer than any job lasts.
pub(crate) fn token(side: &Side<'_>) -> Result<String> {
    let secret: Secret = JWT_SECRET.parse()?;
    let lifetime = Duration::from_secs(12 * 3_600);
    Ok(issue(&secret, &side.name.parse()?, Role::Participant(side.kind), &[side.location.parse()?], lifetime)?)
}

impl Pair {
    pub(crate) fn new(number: usize) -> Result<Self> {
        let (doctor, patient) = (format!("doc{number}"), format!("pat{number}"));
        let location: LocationId = LOCATION.parse()?;
        let conversation =
            Conversation::new(location, Participant::user(doctor.parse()?), Participant::contact(patient.parse()?))?;
        Ok(Self { doctor, patient, conversation })
    }

    /// The doctor, with another patient in each request of a template.
    pub(crate) fn with_new_patients(self) -> Self {
        Self { patient: ID_PLACE.to_owned(), ..self }
    }

    pub(crate) fn channel(&self) -> Channel {
        Channel::from(&self.conversation)
    }

    pub(crate) fn doctor(&self) -> Side<'_> {
        Side { location: LOCATION, kind: ParticipantKind::User, name: &self.doctor }
    }

    pub(crate) fn patient(&self) -> Side<'_> {
        Side { location: LOCATION, kind: ParticipantKind::Contact, name: &self.patient }
    }

    /// A fresh token of one of them.
    pub(crate) fn token(&self, kind: ParticipantKind) -> Result<String> {
        token(&if kind == ParticipantKind::User { self.doctor() } else { self.patient() })
    }

    /// The handshake of one of them with our gateway; with a cursor, to resume there.
    pub(crate) fn handshake(&self, token: &str, cursor: Option<&str>) -> Vec<u8> {
        let Self { doctor, patient, .. } = self;
        let mut path = format!("/ws?location_id={LOCATION}&user_id={doctor}&contact_id={patient}");
        if let Some(cursor) = cursor {
            let _ = write!(path, "&cursor={cursor}");
        }
        handshake(&path, Some(token))
    }

    /// A message of the doctor as the API service answers it, with places for its stamp and its id.
    pub(crate) fn message(&self) -> String {
        let Self { doctor, patient, conversation } = self;
        format!(
            r#"{{"id":"{ID_PLACE}","conversation_id":"{}","seq":1234,"location_id":"{LOCATION}","sender_user_id":"{doctor}","receiver_contact_id":"{patient}","content":"{}{WORDS}","sent_at":"2026-11-22T12:00:00.123456Z","is_read":false}}"#,
            conversation.id(),
            stamp::PLACE,
        )
    }

    /// The same, as the API service hands it to Redis.
    pub(crate) fn draft(&self) -> Result<OutgoingEvent> {
        let to = Participant::contact(self.patient.parse()?);
        Ok(OutgoingEvent::message(&self.message(), Recipient { participant: to, message_id: ID_PLACE.parse()? }, 1))
    }

    /// The same as the frame that a client of this system receives, for servers that pass on what was published.
    pub(crate) fn frame(&self) -> Result<String> {
        let OutgoingEvent { kind, body: rest, .. } = self.draft()?;
        Ok(format!(r#"{{"type":"{kind}","cursor":"1763812800123-0",{}"#, rest.expose()))
    }
}

/// A WebSocket handshake's request.
pub(crate) fn handshake(path: &str, token: Option<&str>) -> Vec<u8> {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{authorization}\r\n"
    )
    .into_bytes()
}

/// Splits `ws://127.0.0.1:PORT/ws` or `http://localhost:PORT` to the address.
pub(crate) fn address_of(url: &str) -> Result<SocketAddr> {
    let place = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = place.split('/').next().unwrap_or(place);
    Ok(host.replace("localhost", "127.0.0.1").parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_template_has_placeholders() {
        let pair = Pair::new(7).unwrap();
        assert!(pair.message().contains(stamp::PLACE) && pair.message().contains(ID_PLACE));
        assert!(pair.draft().unwrap().header().contains(ID_PLACE));
        assert!(pair.frame().unwrap().starts_with(r#"{"type":"message","cursor":"#));
    }

    #[test]
    fn url_parses_to_address() {
        assert_eq!(address_of("http://localhost:8080").unwrap().port(), 8080);
        assert_eq!(address_of("ws://127.0.0.1:81/ws").unwrap().to_string(), "127.0.0.1:81");
    }
}
