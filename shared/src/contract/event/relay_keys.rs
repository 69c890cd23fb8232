//! Encryption of messages on their way through Redis: the API service seals them, and each gateway opens them once.
//!
//! A sealed body is `MARKER ID_LENGTH ID SEALED`. It stands where the plain body would, on the channel and in the log. The
//! opened frame equals the plain one byte for byte. The marker is a control character, which JSON never holds unescaped.
//!
//! When all messages are sealed, gateways accept only receipts and typing in plain ([`RelayKeys::rejecting_unsealed`]).
//! Otherwise an attacker with write access to Redis could forge messages.
//!
//! Each conversation and each inbox has its own key, derived from the relay key and the channel's name. The associated data are
//! the frame's type and header: recipient and message id, or the conversation of the row. So a sealed body opens only in its
//! own place.

use aws_lc_rs::aead::AES_256_GCM;
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk};
use zeroize::Zeroizing;

use crate::contract::event::{Cursor, Event, Header, InvalidEvent, OutgoingEvent, split_payload};
use crate::contract::redis::keys::Channel;
use crate::kit::crypto::key_ring::{KeyId, KeyRing};
use crate::kit::crypto::seal::{KEY_BYTES, Key, OVERHEAD_BYTES, SealError};

/// The first byte of what is sealed.
const SEALED_MARKER: u8 = 0x01;
/// How far into a frame the mark is looked for: its type and cursor take less.
const MAX_PREFIX_BYTES: usize = 128;
/// Keeps keys that are derived for this purpose apart from those of any other.
const HKDF_INFO: &[u8] = b"ehr-chat relay 1 ";

/// Keys under which messages pass through Redis. The default has none: it seals nothing and opens nothing.
#[derive(Default)]
pub struct RelayKeys {
    /// The one that seals first.
    roots: Vec<(KeyId, Prk)>,
    seals: bool,
    rejects_unsealed: bool,
}

/// Why an event cannot be passed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It is none.
    #[error(transparent)]
    Invalid(#[from] InvalidEvent),
    /// It is sealed with a key that is not there.
    #[error("it is sealed with the relay key `{0}`, which RELAY_KEYS does not hold")]
    UnknownKey(KeyId),
    /// It is in the open, and of a kind that is always sealed.
    #[error("it is not sealed, and RELAY_UNSEALED is refuse")]
    Unsealed,
    /// It is sealed, and does not open here.
    #[error("it is sealed with the relay key `{0}`, but with other bytes or for another place, or was altered")]
    AuthenticationFailed(KeyId),
}

impl RelayKeys {
    /// The keys of a list.
    #[must_use]
    pub fn new(ring: &KeyRing) -> Self {
        // Nothing to extract: the keys of a list are evenly random already (RFC 5869, 3.3).
        let root = |(id, key): (&KeyId, &[u8; KEY_BYTES])| (id.clone(), Prk::new_less_safe(HKDF_SHA256, key));
        let roots = ring.iter().map(root).collect();
        Self { roots, seals: ring.current().is_some(), rejects_unsealed: false }
    }

    /// The same, which refuse messages and rows of inboxes that are not sealed.
    #[must_use]
    pub fn rejecting_unsealed(self) -> Self {
        Self { rejects_unsealed: true, ..self }
    }

    /// Seals the body of an event. `None` without a sealing key, and for receipts, which hold no text of participants.
    ///
    /// # Errors
    /// [`SealError::Cipher`]
    pub fn seal(&self, channel: &Channel, draft: &OutgoingEvent) -> Result<Option<Vec<u8>>, SealError> {
        match draft.recipient {
            Some(_) => self.seal_body(channel, draft.kind, &draft.header(), draft.body.expose()),
            None => Ok(None),
        }
    }

    /// The sealed rest of any frame, tied to its type and header; `None` without a key.
    pub(crate) fn seal_body(
        &self,
        channel: &Channel,
        kind: &str,
        header: &str,
        rest: &str,
    ) -> Result<Option<Vec<u8>>, SealError> {
        let Some((id, root)) = self.roots.first().filter(|_| self.seals) else { return Ok(None) };
        let (name, rest) = (id.as_str().as_bytes(), rest.as_bytes());
        let mut sealed = Vec::with_capacity(2 + name.len() + rest.len() + OVERHEAD_BYTES);
        sealed.extend_from_slice(&[SEALED_MARKER, name.len() as u8]);
        sealed.extend_from_slice(name);
        let from = sealed.len();
        sealed.extend_from_slice(rest);
        derive(root, channel.as_str())?.seal(&aad(kind, header), &mut sealed, from)?;
        Ok(Some(sealed))
    }

    /// Parses a payload from a channel, and opens it if it is sealed.
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn open_live<'a>(&self, channel: &str, payload: &'a [u8]) -> Result<Event<'a>, OpenError> {
        let (header, frame) = split_payload(payload)?;
        let tied = match &header {
            Header::Logged { recipient: Some(recipient), .. } => recipient.to_string(),
            Header::InboxRow { conversation } => conversation.to_string(),
            Header::PublishStatus { .. } => return Ok(Event::from_plain(header, frame)?),
            Header::Logged { .. } | Header::Ephemeral { .. } => {
                return self.check_unsealed(Event::from_plain(header, frame)?);
            }
        };
        let within = &frame[..frame.len().min(MAX_PREFIX_BYTES)];
        let Some(at) = within.iter().position(|byte| *byte == SEALED_MARKER) else {
            return self.check_unsealed(Event::from_plain(header, frame)?);
        };
        let (beginning, sealed) = frame.split_at(at);
        let beginning = std::str::from_utf8(beginning).map_err(|_| InvalidEvent)?;
        let kind =
            beginning.strip_prefix("{\"type\":\"").and_then(|rest| rest.split('"').next()).ok_or(InvalidEvent)?;
        let frame = self.open(channel, kind, &tied, beginning, sealed)?;
        Ok(Event { header, frame: frame.into() })
    }

    /// Parses the log entry after `previous`, and opens it if it is sealed. `None` for the entry that only opens a log.
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn open_logged(
        &self,
        channel: &str,
        [cursor, previous]: [Cursor; 2],
        kind: &str,
        header: &str,
        rest: &[u8],
    ) -> Result<Option<Event<'static>>, OpenError> {
        if rest.first() != Some(&SEALED_MARKER) {
            let rest = std::str::from_utf8(rest).map_err(|_| InvalidEvent)?;
            return Event::from_log(cursor, Some(previous), kind, header, rest)?
                .map(|event| self.check_unsealed(event))
                .transpose();
        }
        // The same with an empty rest is the beginning of the frame.
        let Some(event) = Event::from_log(cursor, Some(previous), kind, header, "")? else {
            return Err(InvalidEvent.into());
        };
        let frame = self.open(channel, kind, header, &event.frame, rest)?;
        Ok(Some(Event { header: event.header, frame: frame.into() }))
    }

    /// An event in plain, if that is allowed.
    fn check_unsealed<'a>(&self, event: Event<'a>) -> Result<Event<'a>, OpenError> {
        let is_tied = matches!(event.header, Header::Logged { recipient: Some(_), .. } | Header::InboxRow { .. });
        match self.rejects_unsealed && (is_tied || !is_never_sealed(&event.frame)) {
            true => Err(OpenError::Unsealed),
            false => Ok(event),
        }
    }

    /// The whole frame.
    fn open(
        &self,
        channel: &str,
        kind: &str,
        header: &str,
        beginning: &str,
        sealed: &[u8],
    ) -> Result<String, OpenError> {
        let [SEALED_MARKER, length, sealed @ ..] = sealed else { return Err(InvalidEvent.into()) };
        let (id, sealed) = sealed.split_at_checked(usize::from(*length)).ok_or(InvalidEvent)?;
        let id = std::str::from_utf8(id).ok().and_then(|id| id.parse::<KeyId>().ok()).ok_or(InvalidEvent)?;
        let Some((id, root)) = self.roots.iter().find(|(known, _)| *known == id) else {
            return Err(OpenError::UnknownKey(id));
        };
        let refused = || OpenError::AuthenticationFailed(id.clone());
        let mut frame = Vec::with_capacity(beginning.len() + sealed.len());
        frame.extend_from_slice(beginning.as_bytes());
        frame.extend_from_slice(sealed);
        let key = derive(root, channel).map_err(|_| refused())?;
        key.open(&aad(kind, header), &mut frame, beginning.len()).map_err(|_| refused())?;
        String::from_utf8(frame).map_err(|_| refused())
    }
}

impl std::fmt::Debug for RelayKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.roots.iter().map(|(id, _)| id.as_str())).finish()
    }
}

/// The key of one conversation or inbox.
fn derive(root: &Prk, channel: &str) -> Result<Key, SealError> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    let info = [HKDF_INFO, channel.as_bytes()];
    let derived = root.expand(&info, &AES_256_GCM).and_then(|derived| derived.fill(&mut *bytes));
    derived.map_err(|_| SealError::Cipher)?;
    Key::new(&bytes)
}

fn aad(kind: &str, header: &str) -> Vec<u8> {
    [kind, " ", header].concat().into_bytes()
}

/// Whether a frame is a receipt or a notice of typing, and has no further field. So no second `type` and no message can hide in
/// it.
fn is_never_sealed(frame: &str) -> bool {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "what may be there")]
    struct NeverSealed {
        r#type: NeverSealedKind,
        cursor: Option<String>,
        message_ids: Option<Vec<crate::contract::ids::MessageId>>,
        delivered_at: Option<String>,
        read_at: Option<String>,
        user_id: Option<String>,
        contact_id: Option<String>,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum NeverSealedKind {
        Delivered,
        Read,
        Typing,
    }
    serde_json::from_str::<NeverSealed>(frame).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::event::Recipient;
    use crate::contract::event::publish_batch::{PublishBatch, PublishMode};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn keys(list: &[(&str, u8)]) -> RelayKeys {
        let entries: Vec<String> =
            list.iter().map(|(id, byte)| format!("{id}:{}", STANDARD.encode([*byte; KEY_BYTES]))).collect();
        RelayKeys::new(&entries.join(",").parse().unwrap())
    }

    fn channel(n: u128) -> Channel {
        Channel::new(&"loc1".parse().unwrap(), Uuid::from_u128(n))
    }

    fn draft(text: &str) -> OutgoingEvent {
        let json = serde_json::json!({ "content": text }).to_string();
        OutgoingEvent::message(
            &json,
            Recipient { participant: "contact:pat456".parse().unwrap(), message_id: Uuid::from_u128(7) },
            1,
        )
    }

    /// As the publishing script writes it on the channel.
    fn payload(header: &str, kind: &str, rest: &[u8]) -> Vec<u8> {
        [format!("5-1 5-0 {header}\n{{\"type\":\"{kind}\",\"cursor\":\"5-1\",").as_bytes(), rest].concat()
    }

    fn cursors() -> [Cursor; 2] {
        ["5-1".parse().unwrap(), "5-0".parse().unwrap()]
    }

    #[test]
    fn opened_frame_equals_plain_frame() {
        let (keys, draft) = (keys(&[("k1", 1)]), draft("line\none \u{1}\u{1F600}"));
        let sealed = keys.seal(&channel(1), &draft).unwrap().unwrap();
        let plain = payload(&draft.header(), draft.kind, draft.body.expose().as_bytes());
        let plain = Event::from_channel(&plain).unwrap();
        let bytes = payload(&draft.header(), draft.kind, &sealed);
        let live = keys.open_live(channel(1).as_str(), &bytes).unwrap();
        assert_eq!((&live.header, &live.frame), (&plain.header, &plain.frame));
        let logged = keys.open_logged(channel(1).as_str(), cursors(), draft.kind, &draft.header(), &sealed);
        let logged = logged.unwrap().unwrap();
        assert_eq!((&logged.header, &logged.frame), (&plain.header, &plain.frame));
    }

    #[test]
    fn plain_events_are_accepted_by_default() {
        let draft = draft("hello");
        let bytes = payload(&draft.header(), draft.kind, draft.body.expose().as_bytes());
        for keys in [keys(&[("k1", 1)]), RelayKeys::default()] {
            assert!(keys.open_live(channel(1).as_str(), &bytes).unwrap().frame.contains("hello"));
            let rest = draft.body.expose().as_bytes();
            let logged = keys.open_logged(channel(1).as_str(), cursors(), draft.kind, &draft.header(), rest);
            assert!(logged.unwrap().unwrap().frame.contains("hello"));
            assert!(keys.open_logged(channel(1).as_str(), cursors(), "", "", b"").unwrap().is_none());
        }
        assert_eq!(RelayKeys::default().seal(&channel(1), &draft), Ok(None));
    }

    #[test]
    fn plain_messages_are_rejected_when_sealing_is_required() {
        let (draft, keys) = (draft("hello"), keys(&[("k1", 1)]).rejecting_unsealed());
        let name = channel(1).as_str().to_owned();
        let live = |payload: &[u8]| keys.open_live(&name, payload).map(|event| event.frame.into_owned());
        let logged = |kind: &str, header: &str, rest: &str| {
            keys.open_logged(&name, cursors(), kind, header, rest.as_bytes()).map(|event| event.is_some())
        };
        let rest = draft.body.expose();
        assert_eq!(live(&payload(&draft.header(), draft.kind, rest.as_bytes())), Err(OpenError::Unsealed));
        assert_eq!(logged(draft.kind, &draft.header(), rest), Err(OpenError::Unsealed));
        let sealed = keys.seal(&channel(1), &draft).unwrap().unwrap();
        assert!(live(&payload(&draft.header(), draft.kind, &sealed)).is_ok());
        // Receipts and typing are never sealed.
        let receipt = OutgoingEvent::receipt(
            crate::contract::receipt::ReceiptKind::Read,
            &[Uuid::from_u128(1)],
            "2026-11-22T12:00:00.000001Z",
        );
        let (kind, good) = (receipt.kind, receipt.body.expose());
        let on_channel = format!("5-1 5-0\n{{\"type\":\"{kind}\",\"cursor\":\"5-1\",{good}");
        assert!(live(on_channel.as_bytes()).is_ok());
        assert_eq!(logged(kind, "", good), Ok(true));
        assert!(live(crate::contract::event::typing_payload(&"user:doc".parse().unwrap()).as_bytes()).is_ok());
        assert_eq!(keys.open_logged(&name, cursors(), "", "", b"").map(|event| event.is_some()), Ok(false));
        // Nothing hides in one: neither a second type nor a message.
        for forged in [
            r#""message_ids":[],"read_at":"x","type":"message","message":{"content":"forged"}}"#,
            r#""message_ids":[],"read_at":"x","\u0074ype":"message"}"#,
            r#""message":{"content":"forged"}}"#,
            r#""message_ids":[],"read_at":"x"},{"type":"message"}"#,
            "",
        ] {
            assert_eq!(logged(kind, "", forged), Err(OpenError::Unsealed), "{forged}");
        }
        for kind in ["message", "conversation", "presence", "Message"] {
            assert_eq!(logged(kind, "", good), Err(OpenError::Unsealed), "{kind}");
            let ephemeral = format!("* user:doc\n{{\"type\":\"{kind}\",\"user_id\":\"doc\"}}");
            assert_eq!(live(ephemeral.as_bytes()), Err(OpenError::Unsealed), "{kind}");
        }
    }

    #[test]
    fn receipts_are_never_sealed() {
        let receipt = OutgoingEvent::receipt(
            crate::contract::receipt::ReceiptKind::Read,
            &[Uuid::from_u128(1)],
            "2026-11-22T12:00:00.000001Z",
        );
        assert_eq!(keys(&[("k1", 1)]).seal(&channel(1), &receipt), Ok(None));
        let opens = format!("-,k1:{}", STANDARD.encode([1; KEY_BYTES]));
        assert_eq!(RelayKeys::new(&opens.parse().unwrap()).seal(&channel(1), &draft("hello")), Ok(None));
    }

    #[test]
    fn first_key_seals_and_older_keys_open() {
        let (old, both) = (keys(&[("old", 1)]), keys(&[("new", 2), ("old", 1)]));
        let read = |keys: &RelayKeys, sealed: &[u8]| {
            keys.open_logged(channel(1).as_str(), cursors(), "message", &draft("").header(), sealed)
                .map(|event| event.is_some())
        };
        let sealed_before = old.seal(&channel(1), &draft("hello")).unwrap().unwrap();
        let sealed_since = both.seal(&channel(1), &draft("hello")).unwrap().unwrap();
        assert_eq!((read(&both, &sealed_before), read(&both, &sealed_since)), (Ok(true), Ok(true)));
        assert_eq!(read(&old, &sealed_since), Err(OpenError::UnknownKey("new".parse().unwrap())));
        assert_eq!(
            read(&keys(&[("old", 9)]), &sealed_before),
            Err(OpenError::AuthenticationFailed("old".parse().unwrap()))
        );
        assert!(matches!(read(&RelayKeys::default(), &sealed_before), Err(OpenError::UnknownKey(_))));
    }

    #[test]
    fn sealed_body_opens_only_in_its_own_place() {
        let (keys, draft) = (keys(&[("k1", 1)]), draft("hello"));
        let sealed = keys.seal(&channel(1), &draft).unwrap().unwrap();
        let (header, refused) = (draft.header(), Err(OpenError::AuthenticationFailed("k1".parse().unwrap())));
        let other = header.replace("pat456", "pat457");
        for (channel, kind, header) in
            [(channel(2), "message", &header), (channel(1), "note", &header), (channel(1), "message", &other)]
        {
            let payload = payload(header, kind, &sealed);
            assert_eq!(keys.open_live(channel.as_str(), &payload).map(drop), refused);
            assert_eq!(keys.open_logged(channel.as_str(), cursors(), kind, header, &sealed).map(drop), refused);
        }
    }

    #[test]
    fn debug_output_hides_keys_and_content() {
        let (keys, draft) = (keys(&[("k1", 1)]), draft("hunter2"));
        assert_eq!(format!("{keys:?}"), r#"{"k1"}"#);
        let mut publication = PublishBatch::new(1, 1);
        publication.add(&channel(1), &draft, PublishMode::Force, &RelayKeys::default()).unwrap();
        let rendered = format!("{draft:?} {publication:?}");
        assert!(!rendered.contains("hunter2") && !rendered.contains("104, 117, 110"), "{rendered}");
        let bytes = payload(&draft.header(), draft.kind, draft.body.expose().as_bytes());
        assert!(!format!("{:?}", Event::from_channel(&bytes)).contains("hunter2"));
    }

    proptest! {
        #[test]
        fn altered_body_does_not_open(text in "\\PC{0,60}", at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let (keys, draft) = (keys(&[("k1", 1)]), draft(&text));
            let mut sealed = keys.seal(&channel(1), &draft).unwrap().unwrap();
            let frame = |sealed: &[u8]| {
                let bytes = payload(&draft.header(), draft.kind, sealed);
                keys.open_live(channel(1).as_str(), &bytes).map(|event| event.frame.into_owned())
            };
            let opened = frame(&sealed).unwrap();
            prop_assert!(opened.ends_with(draft.body.expose().as_str()));
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert!(frame(&sealed).is_err());
        }

        #[test]
        fn open_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), sealed: bool) {
            let keys = keys(&[("k1", 1)]);
            let marked = if sealed { [&[SEALED_MARKER, 2][..], b"k1", &bytes].concat() } else { bytes };
            let _ = keys.open_live(channel(1).as_str(), &marked);
            let _ = keys.open_live(channel(1).as_str(), &payload(&draft("").header(), "message", &marked));
            let _ = keys.open_logged(channel(1).as_str(), cursors(), "message", &draft("").header(), &marked);
        }
    }
}
