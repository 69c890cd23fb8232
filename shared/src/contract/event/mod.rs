//! What travels from the API service through Redis to the sockets.
//!
//! An event is encoded once, by the API service. Redis gives it its cursor and splices it into the
//! frame; gateways pass the bytes on as they are and read no more than the first line.
//!
//! On the channel an event is `HEADER\nFRAME`, and the frame is what a client receives. The header is
//!
//! - `CURSOR PREVIOUS PARTICIPANT MESSAGE_ID` for a message: whose client proves its delivery;
//! - `CURSOR PREVIOUS` for what else is in the log;
//! - `* PARTICIPANT` for events outside the log: typing, which the participant's own sockets do not get;
//! - `~ INSTANCE degraded` and `~ INSTANCE recovered`, without a frame, from an API service whose events Redis refuses;
//! - `+ CONVERSATION` for the row of an inbox: [`crate::contract::event::inbox_publish_batch`].
//!
//! and behind a tab, if it is known, the id of the request that it comes from, for logs. The log of the conversation does
//! not keep that.
//!
//! `PREVIOUS` is the cursor of the entry that the log held last before this one, `-` when it held none. Who stands
//! elsewhere has missed something. With relay keys, what a message's frame holds behind its cursor is sealed:
//! [`crate::contract::event::relay_keys`].

mod cursor;
mod header;
pub mod inbox_publish_batch;
mod outgoing;
pub mod publish_batch;
pub mod relay_keys;

pub use cursor::{Cursor, InvalidCursor};
pub use header::{Header, InvalidEvent, Recipient};
pub use outgoing::OutgoingEvent;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use uuid::Uuid;

use crate::contract::ids::MessageId;
use crate::contract::participant::Participant;
use crate::kit::crypto::redacted::Redacted;

/// An event as a gateway reads it: where it lies, if it can.
#[derive(Clone)]
pub struct Event<'a> {
    /// What the gateway must know of it.
    pub header: Header,
    /// The frame: JSON.
    pub frame: Cow<'a, str>,
}

/// The request that what came on a channel comes from.
#[must_use]
pub fn parse_request_id(payload: &[u8]) -> Option<&str> {
    let header = payload.split(|byte| *byte == b'\n').next()?;
    let (_, request) = std::str::from_utf8(header).ok()?.split_once('\t')?;
    Some(request)
}

/// The messages that a `delivered` or `read` frame tells of, from its part behind the `cursor`.
///
/// # Errors
/// [`InvalidEvent`] when it is not of the form that [`OutgoingEvent::receipt`] gives it.
pub fn parse_receipt_ids(rest: &str) -> Result<Vec<MessageId>, InvalidEvent> {
    #[derive(serde::Deserialize)]
    struct Receipt {
        message_ids: Vec<MessageId>,
    }
    let frame = ["{", rest].concat();
    serde_json::from_str::<Receipt>(&frame).map(|receipt| receipt.message_ids).map_err(|_| InvalidEvent)
}

/// What a gateway publishes when `from` types: the payload for [`crate::kit::redis::Topology::publish_ephemeral_script`].
#[must_use]
pub fn typing_payload(from: &Participant) -> String {
    // Identifiers hold nothing that JSON would escape.
    format!("* {from}\n{{\"type\":\"typing\",\"{}_id\":\"{}\"}}", from.kind.as_str(), from.id)
}

/// What an API service publishes when Redis refuses the events of a conversation, and when it has taken all that waited: the
/// payload for [`crate::kit::redis::Topology::publish_ephemeral_script`].
#[must_use]
pub fn publish_status_payload(instance: Uuid, is_recovered: bool) -> String {
    format!("~ {instance} {}\n", if is_recovered { "recovered" } else { "degraded" })
}

/// How long a publish status is valid. The API service repeats it while it holds, because its sender may have died.
pub const PUBLISH_STATUS_TTL: Duration = Duration::from_secs(30);

impl<'a> Event<'a> {
    /// Reads what came on a channel.
    ///
    /// # Errors
    /// [`InvalidEvent`] when it is not of the form that [`crate::kit::redis::Topology::publish_script`] gives it.
    pub fn from_channel(payload: &'a [u8]) -> Result<Self, InvalidEvent> {
        let (header, frame) = split_payload(payload)?;
        Self::from_plain(header, frame)
    }

    /// An event whose frame is a text as it is.
    pub(crate) fn from_plain(header: Header, frame: &'a [u8]) -> Result<Self, InvalidEvent> {
        let frame = std::str::from_utf8(frame).map_err(|_| InvalidEvent)?;
        Ok(Self { header, frame: Cow::Borrowed(frame) })
    }

    /// Reads the entry of a log that follows `previous`. `None` for the entry that only opens a log.
    ///
    /// # Errors
    /// [`InvalidEvent`] when it is not of the form that [`crate::kit::redis::Topology::publish_script`] gives it.
    pub fn from_log(
        cursor: Cursor,
        previous: Option<Cursor>,
        kind: &str,
        header: &str,
        rest: &str,
    ) -> Result<Option<Self>, InvalidEvent> {
        if kind.is_empty() {
            return Ok(None);
        }
        let recipient = match header {
            "" => None,
            recipient => Some(recipient.parse()?),
        };
        let frame = format!("{{\"type\":\"{kind}\",\"cursor\":\"{cursor}\",{rest}");
        Ok(Some(Self { frame: Cow::Owned(frame), header: Header::Logged { cursor, previous, recipient } }))
    }
}

/// A frame may hold message content.
impl fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("header", &self.header).field("frame", &Redacted::new(&self.frame)).finish()
    }
}

/// The header of what came on a channel, and its frame, of which nothing is known.
pub(crate) fn split_payload(payload: &[u8]) -> Result<(Header, &[u8]), InvalidEvent> {
    let end = payload.iter().position(|byte| *byte == b'\n').ok_or(InvalidEvent)?;
    let header = std::str::from_utf8(&payload[..end]).map_err(|_| InvalidEvent)?;
    Ok((header.parse()?, &payload[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cursor(text: &str) -> Cursor {
        text.parse().unwrap()
    }

    fn recipient() -> Recipient {
        Recipient { participant: "contact:pat456".parse().unwrap(), message_id: Uuid::from_u128(7) }
    }

    #[test]
    fn publish_status_survives_a_round_trip() {
        let instance = Uuid::from_u128(7);
        for is_recovered in [false, true] {
            let payload = publish_status_payload(instance, is_recovered);
            assert_eq!(
                Event::from_channel(payload.as_bytes()).unwrap().header,
                Header::PublishStatus { instance, is_recovered }
            );
        }
        assert!(Event::from_channel(format!("~ {instance} gone\n").as_bytes()).is_err());
    }

    #[test]
    fn channel_and_log_give_the_same_event() {
        let draft = OutgoingEvent::message(r#"{"content":"line\none"}"#, recipient(), 1);
        let payload = format!(
            "1-2 1-1 {}\n{{\"type\":\"{}\",\"cursor\":\"1-2\",{}",
            draft.header(),
            draft.kind,
            draft.body.expose()
        );
        let live = Event::from_channel(payload.as_bytes()).unwrap();
        let (cursor, previous) = (cursor("1-2"), Some(cursor("1-1")));
        let replayed =
            Event::from_log(cursor, previous, draft.kind, &draft.header(), draft.body.expose()).unwrap().unwrap();
        assert_eq!(live.frame, replayed.frame);
        let header = Header::Logged { cursor, previous, recipient: Some(recipient()) };
        assert_eq!(live.header, header);
        assert_eq!(replayed.header, header);
        let frame: serde_json::Value = serde_json::from_str(&live.frame).unwrap();
        assert_eq!(frame, serde_json::json!({"type":"message","cursor":"1-2","message":{"content":"line\none"}}));
    }

    #[test]
    fn request_id_does_not_change_the_header() {
        for header in ["5-1 5-0", "5-1 5-0 user:a 00000000-0000-0000-0000-000000000007", "* user:a"] {
            let payload = format!("{header}\treq-1\n{{}}");
            assert_eq!(parse_request_id(payload.as_bytes()), Some("req-1"));
            let event = Event::from_channel(payload.as_bytes()).unwrap();
            assert_eq!((event.header, &*event.frame), (header.parse().unwrap(), "{}"));
            assert_eq!(parse_request_id(format!("{header}\n{{\"a\":\"\t\"}}").as_bytes()), None);
        }
    }

    #[test]
    fn receipt_has_no_recipient() {
        let ids = [Uuid::from_u128(1), Uuid::from_u128(2)];
        let draft =
            OutgoingEvent::receipt(crate::contract::receipt::ReceiptKind::Read, &ids, "2026-11-22T12:00:00.000001Z");
        assert_eq!(parse_receipt_ids(draft.body.expose()), Ok(ids.to_vec()));
        assert_eq!(parse_receipt_ids("\"message\":{}}"), Err(InvalidEvent));
        let event =
            Event::from_log(cursor("5-0"), None, draft.kind, &draft.header(), draft.body.expose()).unwrap().unwrap();
        assert_eq!(event.header, Header::Logged { cursor: cursor("5-0"), previous: None, recipient: None });
        let frame: serde_json::Value = serde_json::from_str(&event.frame).unwrap();
        assert_eq!(
            frame,
            serde_json::json!({"type":"read","cursor":"5-0","message_ids":ids,"read_at":"2026-11-22T12:00:00.000001Z"})
        );
    }

    #[test]
    fn typing_names_its_participant() {
        let payload = typing_payload(&"user:doc123".parse().unwrap());
        let event = Event::from_channel(payload.as_bytes()).unwrap();
        assert_eq!(event.header, Header::Ephemeral { from: "user:doc123".parse().unwrap() });
        assert_eq!(event.frame, r#"{"type":"typing","user_id":"doc123"}"#);
    }

    #[test]
    fn marker_entry_is_not_an_event() {
        assert!(Event::from_log(cursor("1-0"), None, "", "", "").unwrap().is_none());
    }

    #[test]
    fn cursors_order_by_number_not_by_text() {
        assert!(cursor("9-0") < cursor("10-0"));
        assert!(cursor("10-9") < cursor("10-10"));
    }

    #[test]
    fn header_names_previous_entry() {
        let logged = |text: &str| text.parse::<Header>().unwrap();
        let (first, second) = (cursor("5-0"), cursor("5-1"));
        assert_eq!(logged("5-0 -"), Header::Logged { cursor: first, previous: None, recipient: None });
        assert_eq!(logged("5-1 5-0"), Header::Logged { cursor: second, previous: Some(first), recipient: None });
        for text in [
            "",
            "5-0",
            "5-0 ",
            "5-0 x",
            "5-0 - ",
            "5-0 - user:a",
            "5-0 user:a 1",
            "- -",
            "*",
            "* x",
            "+",
            "+ x",
            "5-0  -",
        ] {
            assert_eq!(text.parse::<Header>(), Err(InvalidEvent), "{text}");
        }
    }

    /// Cursors as a log has them, and people as the EHR names them.
    fn headers() -> impl Strategy<Value = (Cursor, Option<Cursor>, Option<Recipient>)> {
        let place = |(millis, count)| Cursor { millis, count };
        let recipient = ("(user|contact):[A-Za-z0-9._~-]{1,64}", any::<u128>())
            .prop_map(|(to, id)| Recipient { participant: to.parse().unwrap(), message_id: Uuid::from_u128(id) });
        let cursor = any::<(u64, u64)>().prop_map(place);
        (cursor.clone(), prop::option::of(cursor), prop::option::of(recipient))
    }

    proptest! {
        #[test]
        fn headers_survive_a_round_trip((cursor, previous, recipient) in headers()) {
            let mut text = format!("{cursor} {}", previous.map_or("-".to_owned(), |previous| previous.to_string()));
            if let Some(recipient) = &recipient {
                text = format!("{text} {recipient}");
            }
            prop_assert_eq!(text.parse::<Header>(), Ok(Header::Logged { cursor, previous, recipient }));
        }

        #[test]
        fn header_parser_never_panics(text in "[-*:0-9a-z ]{0,60}") {
            let _ = text.parse::<Header>();
        }

        #[test]
        fn payload_parser_never_panics(payload in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Event::from_channel(&payload);
        }

        #[test]
        fn cursors_survive_a_round_trip(millis: u64, count: u64) {
            let text = format!("{millis}-{count}");
            prop_assert_eq!(text.parse::<Cursor>().map(|c| c.to_string()), Ok(text));
        }

        #[test]
        fn cursor_parser_never_panics(text in "[-+0-9a-z]{0,50}") {
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string().parse::<Cursor>(), Ok(cursor));
            }
        }
    }
}
