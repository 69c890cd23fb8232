//! Frames of clients, and frames that the gateway writes itself. Events are forwarded unparsed.
//!
//! Unknown members are ignored, so that newer clients work with older gateways. Known members must be valid. Errors
//! never quote the client.

use std::borrow::Cow;
use std::fmt;

use serde_json::{Map, Value, json};
use shared::contract::event::Cursor;
use shared::contract::ids::{ConversationId, MessageId, parse_uuid};
use shared::contract::receipt::{MAX_MESSAGE_IDS, ReceiptKind};
use shared::kit::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A frame of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ClientFrame {
    /// The participant is typing.
    Typing,
    /// Messages that were delivered or read; 1 to [`MAX_MESSAGE_IDS`].
    Receipt(ReceiptKind, Vec<MessageId>),
    /// A new token.
    Auth(Token),
    /// An application-level ping.
    Ping,
}

/// A client's token. `Debug` does not print it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// `code` of an `error` frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorCode {
    /// Not a JSON object with a `type`.
    Malformed,
    /// An unknown `type`.
    UnknownType,
    /// A known type with invalid members.
    Invalid,
    /// An invalid token.
    Unauthorized,
    /// A valid token without the required rights.
    Forbidden,
    /// A dropped frame: too many in a short time.
    RateLimited,
}

impl ErrorCode {
    /// The wire format.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownType => "unknown_type",
            Self::Invalid => "invalid",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::RateLimited => "rate_limited",
        }
    }
}

/// Why a frame was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FrameError {
    /// The kind of error.
    pub(crate) code: ErrorCode,
    /// What is wrong, for the client's developer.
    pub(crate) detail: Cow<'static, str>,
}

impl FrameError {
    /// An error of this kind.
    pub(crate) fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into() }
    }
}

/// Parses a text frame by the rules of HTTP bodies: [`shared::kit::json`].
///
/// # Errors
/// [`FrameError`], for the client.
pub(crate) fn parse(text: &str) -> Result<ClientFrame, FrameError> {
    let Ok(Value::Object(mut members)) = json::parse(text.as_bytes()) else { return Err(malformed()) };
    let Some(Value::String(kind)) = members.remove("type") else { return Err(malformed()) };
    match &*kind {
        "typing" => Ok(ClientFrame::Typing),
        "ping" => Ok(ClientFrame::Ping),
        "delivered" => receipt(ReceiptKind::Delivered, &members),
        "read" => receipt(ReceiptKind::Read, &members),
        "auth" => match members.remove("token") {
            Some(Value::String(token)) => Ok(ClientFrame::Auth(Token(token))),
            _ => Err(FrameError::new(ErrorCode::Invalid, "`token` must be a string")),
        },
        _ => Err(FrameError::new(ErrorCode::UnknownType, "known types are typing, delivered, read, auth and ping")),
    }
}

fn malformed() -> FrameError {
    FrameError::new(ErrorCode::Malformed, "a frame is a JSON object with a string `type`")
}

fn receipt(kind: ReceiptKind, members: &Map<String, Value>) -> Result<ClientFrame, FrameError> {
    let ids =
        members.get("message_ids").and_then(Value::as_array).filter(|ids| (1..=MAX_MESSAGE_IDS).contains(&ids.len()));
    let parsed = ids.and_then(|ids| ids.iter().map(|id| id.as_str().and_then(parse_uuid)).collect());
    match parsed {
        Some(message_ids) => Ok(ClientFrame::Receipt(kind, message_ids)),
        None => Err(FrameError::new(ErrorCode::Invalid, "`message_ids` must be an array of 1 to 500 UUIDs")),
    }
}

/// A frame of the gateway.
pub(crate) type TextFrame = Cow<'static, str>;

/// The first frame of every socket.
#[must_use]
pub(crate) fn ready(conversation: Option<ConversationId>, cursor: Option<Cursor>, resumed: Option<bool>) -> TextFrame {
    let conversation = conversation.map_or("null".to_owned(), |id| format!("\"{id}\""));
    let cursor = cursor.map_or("null".to_owned(), |cursor| format!("\"{cursor}\""));
    let resumed = resumed.map_or("null", |resumed| if resumed { "true" } else { "false" });
    // None of these values needs JSON escaping.
    format!(r#"{{"type":"ready","conversation_id":{conversation},"cursor":{cursor},"resumed":{resumed}}}"#).into()
}

/// Live delivery is interrupted.
pub(crate) const DEGRADED: TextFrame = Cow::Borrowed(r#"{"type":"degraded"}"#);
/// Live delivery works again.
pub(crate) const RECOVERED: TextFrame = Cow::Borrowed(r#"{"type":"recovered"}"#);
/// Missed events cannot be replayed.
pub(crate) const RESYNC: TextFrame = Cow::Borrowed(r#"{"type":"resync"}"#);
/// The reply to `ping`.
pub(crate) const PONG: TextFrame = Cow::Borrowed(r#"{"type":"pong"}"#);

/// The token expires soon.
#[must_use]
pub(crate) fn expiring(at: OffsetDateTime) -> TextFrame {
    until("expiring", at)
}

/// The reply to `auth`.
#[must_use]
pub(crate) fn authenticated(until_when: OffsetDateTime) -> TextFrame {
    until("authenticated", until_when)
}

fn until(kind: &str, at: OffsetDateTime) -> TextFrame {
    // RFC 3339 has no years beyond 9999.
    let expires_at = at.format(&Rfc3339).unwrap_or_else(|_| "9999-12-31T23:59:59Z".to_owned());
    json!({"type": kind, "expires_at": expires_at}).to_string().into()
}

/// The reply to a rejected frame.
#[must_use]
pub(crate) fn error(error: &FrameError) -> TextFrame {
    json!({"type": "error", "code": error.code.as_str(), "detail": error.detail}).to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn error_code(text: &str) -> ErrorCode {
        parse(text).unwrap_err().code
    }

    #[test]
    fn known_frames_are_parsed() {
        assert_eq!(parse(r#"{"type":"typing"}"#), Ok(ClientFrame::Typing));
        assert_eq!(parse(r#"{"type":"ping","newer":[1]}"#), Ok(ClientFrame::Ping));
        assert_eq!(parse(r#"{"type":"auth","token":"a.b.c"}"#), Ok(ClientFrame::Auth(Token("a.b.c".into()))));
        let id = Uuid::from_u128(7);
        for (name, kind) in [("delivered", ReceiptKind::Delivered), ("read", ReceiptKind::Read)] {
            let text = json!({"type": name, "message_ids": [id]}).to_string();
            assert_eq!(parse(&text), Ok(ClientFrame::Receipt(kind, vec![id])));
        }
    }

    #[test]
    fn invalid_json_is_malformed() {
        for text in ["", "{", "[]", "null", "7", "{}", r#"{"type":7}"#, r#"{"type":"ping""#, r#"{"type":"ping"} x"#] {
            assert_eq!(error_code(text), ErrorCode::Malformed, "{text}");
        }
        // A lenient parser would accept these.
        for text in [
            r#"["ping"]"#,
            r#"{"type":"ping","type":"typing"}"#,
            r#"{"type":"ping","t\u0079pe":"typing"}"#,
            r#"{"type":"ping","newer":{"a":1,"a":2}}"#,
            r#"{"type":"auth","token":"a","token":"b"}"#,
        ] {
            assert_eq!(error_code(text), ErrorCode::Malformed, "{text}");
        }
        assert_eq!(error_code(&"[".repeat(60_000)), ErrorCode::Malformed);
    }

    #[test]
    fn unknown_types_and_invalid_members_are_rejected() {
        assert_eq!(error_code(r#"{"type":"shout"}"#), ErrorCode::UnknownType);
        let many: Vec<_> = (0..501).map(Uuid::from_u128).collect();
        for text in [
            r#"{"type":"read"}"#,
            r#"{"type":"read","message_ids":[]}"#,
            r#"{"type":"read","message_ids":"x"}"#,
            r#"{"type":"delivered","message_ids":["x"]}"#,
            &json!({"type":"read","message_ids":many}).to_string(),
            r#"{"type":"read","message_ids":["0199b1d27c1e7b39a1f03c5d7e9a1b2c"]}"#,
            r#"{"type":"read","message_ids":["{0199b1d2-7c1e-7b39-a1f0-3c5d7e9a1b2c}"]}"#,
            r#"{"type":"read","message_ids":["urn:uuid:0199b1d2-7c1e-7b39-a1f0-3c5d7e9a1b2c"]}"#,
            r#"{"type":"read","message_ids":[[1]]}"#,
            r#"{"type":"auth"}"#,
            r#"{"type":"auth","token":null}"#,
        ] {
            assert_eq!(error_code(text), ErrorCode::Invalid, "{text}");
        }
    }

    #[test]
    fn debug_output_hides_tokens() {
        let frame = parse(r#"{"type":"auth","token":"hunter2"}"#).unwrap();
        assert!(!format!("{frame:?}").contains("hunter2"));
    }

    #[test]
    fn gateway_frames_match_the_contract() {
        let value = |text: TextFrame| serde_json::from_str::<serde_json::Value>(&text).unwrap();
        let id = Uuid::from_u128(1);
        let cursor = "1-0".parse().unwrap();
        for (resumed, written) in [(None, json!(null)), (Some(true), json!(true)), (Some(false), json!(false))] {
            assert_eq!(
                value(ready(Some(id), Some(cursor), resumed)),
                json!({"type": "ready", "conversation_id": id, "cursor": "1-0", "resumed": written})
            );
        }
        let of_inbox = json!({"type": "ready", "conversation_id": null, "cursor": null, "resumed": null});
        assert_eq!(value(ready(None, None, None)), of_inbox);
        let at = OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap();
        assert_eq!(value(expiring(at)), json!({"type": "expiring", "expires_at": "2026-09-21T14:13:20Z"}));
        for (frame, kind) in [(DEGRADED, "degraded"), (RECOVERED, "recovered"), (RESYNC, "resync"), (PONG, "pong")] {
            assert_eq!(value(frame), json!({"type": kind}));
        }
    }

    proptest! {
        #[test]
        fn parser_never_panics_or_quotes_text(text in "\\PC{0,200}") {
            if let Err(rejected) = parse(&text) {
                prop_assert!(text.len() < 8 || !rejected.detail.contains(&text));
            }
        }

        #[test]
        fn parser_never_panics_on_json(kind in "typing|read|delivered|auth|ping|x", name in "message_ids|token|type", value in "\\PC{0,50}") {
            let _ = parse(&json!({"type": kind, name.as_str(): value}).to_string());
            let _ = parse(&format!(r#"{{"type":"{kind}","{name}":{value}}}"#));
        }
    }
}
