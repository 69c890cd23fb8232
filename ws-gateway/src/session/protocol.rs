//! Frames of clients, and frames that the gateway writes itself. Events are forwarded unparsed.
//!
//! Unknown members are ignored, so that newer clients work with older gateways. Known members must be valid. Errors
//! never quote the client.

use std::borrow::Cow;
use std::fmt;

use serde_json::{Map, Value, json};
use shared::contract::error_code::{ProblemCode, SocketCode};
use shared::contract::event::Cursor;
use shared::contract::ids::{ConversationId, MessageId, parse_uuid};
use shared::contract::receipt::{MAX_MESSAGE_IDS, ReceiptKind};
use shared::contract::token::TokenError;
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

/// Why a frame was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FrameError {
    /// The cause.
    pub(crate) code: SocketCode,
    /// What is wrong, in whole sentences for the client's developer.
    pub(crate) detail: Cow<'static, str>,
}

impl FrameError {
    /// An error of this cause.
    pub(crate) fn new(code: impl Into<SocketCode>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code: code.into(), detail: detail.into() }
    }
}

impl From<&TokenError> for FrameError {
    fn from(error: &TokenError) -> Self {
        Self::new(error.code(), error.to_string())
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
            None | Some(Value::Null) => {
                Err(FrameError::new(ProblemCode::MissingField, "The member `token` is missing."))
            }
            Some(_) => Err(FrameError::new(ProblemCode::InvalidType, "The member `token` must be a string.")),
        },
        _ => Err(FrameError::new(
            SocketCode::UnknownType,
            "The `type` is not known. Known are `typing`, `delivered`, `read`, `auth` and `ping`.",
        )),
    }
}

fn malformed() -> FrameError {
    FrameError::new(ProblemCode::Malformed, "A frame is a JSON object with a string `type`, and no key twice.")
}

/// The codes are those of `message_ids` over HTTP.
fn receipt(kind: ReceiptKind, members: &Map<String, Value>) -> Result<ClientFrame, FrameError> {
    let ids = match members.get("message_ids") {
        Some(Value::Array(ids)) => ids,
        None | Some(Value::Null) => {
            return Err(FrameError::new(ProblemCode::MissingField, "The member `message_ids` is missing."));
        }
        Some(_) => {
            let detail = "The member `message_ids` must be an array of UUIDs.";
            return Err(FrameError::new(ProblemCode::InvalidType, detail));
        }
    };
    if !(1..=MAX_MESSAGE_IDS).contains(&ids.len()) {
        let detail = "The member `message_ids` must have 1 to 500 elements.";
        return Err(FrameError::new(ProblemCode::OutOfRange, detail));
    }
    let uuid = |id: &Value| match id {
        Value::String(id) => parse_uuid(id).ok_or(ProblemCode::InvalidUuid),
        _ => Err(ProblemCode::InvalidType),
    };
    let message_ids = ids.iter().map(uuid).collect::<Result<_, _>>();
    let message_ids = message_ids.map_err(|code| {
        FrameError::new(code, "The elements of `message_ids` must be UUIDs with hyphens, as strings.")
    })?;
    Ok(ClientFrame::Receipt(kind, message_ids))
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
    let cause = error.code;
    json!({"type": "error", "code": cause.frame_code(), "cause": cause.as_str(), "detail": error.detail})
        .to_string()
        .into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn error_code(text: &str) -> &'static str {
        parse(text).unwrap_err().code.as_str()
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
            assert_eq!(error_code(text), "malformed", "{text}");
        }
        // A lenient parser would accept these.
        for text in [
            r#"["ping"]"#,
            r#"{"type":"ping","type":"typing"}"#,
            r#"{"type":"ping","t\u0079pe":"typing"}"#,
            r#"{"type":"ping","newer":{"a":1,"a":2}}"#,
            r#"{"type":"auth","token":"a","token":"b"}"#,
        ] {
            assert_eq!(error_code(text), "malformed", "{text}");
        }
        assert_eq!(error_code(&"[".repeat(60_000)), "malformed");
    }

    #[test]
    fn unknown_types_and_invalid_members_are_rejected() {
        assert_eq!(error_code(r#"{"type":"shout"}"#), "unknown_type");
        let many: Vec<_> = (0..501).map(Uuid::from_u128).collect();
        for (text, code) in [
            (r#"{"type":"read"}"#, "missing_field"),
            (r#"{"type":"read","message_ids":null}"#, "missing_field"),
            (r#"{"type":"read","message_ids":[]}"#, "out_of_range"),
            (r#"{"type":"read","message_ids":"x"}"#, "invalid_type"),
            (r#"{"type":"delivered","message_ids":["x"]}"#, "invalid_uuid"),
            (&json!({"type":"read","message_ids":many}).to_string(), "out_of_range"),
            (r#"{"type":"read","message_ids":["0199b1d27c1e7b39a1f03c5d7e9a1b2c"]}"#, "invalid_uuid"),
            (r#"{"type":"read","message_ids":["{0199b1d2-7c1e-7b39-a1f0-3c5d7e9a1b2c}"]}"#, "invalid_uuid"),
            (r#"{"type":"read","message_ids":["urn:uuid:0199b1d2-7c1e-7b39-a1f0-3c5d7e9a1b2c"]}"#, "invalid_uuid"),
            (r#"{"type":"read","message_ids":[[1]]}"#, "invalid_type"),
            (r#"{"type":"auth"}"#, "missing_field"),
            (r#"{"type":"auth","token":null}"#, "missing_field"),
            (r#"{"type":"auth","token":7}"#, "invalid_type"),
        ] {
            assert_eq!(error_code(text), code, "{text}");
        }
    }

    #[test]
    fn asyncapi_lists_causes_of_error_frames() {
        let document = include_str!("../../../asyncapi.yaml");
        let (_, list) = document.split_once("      enum:\n        - malformed\n").unwrap();
        let listed = list.lines().map_while(|line| line.strip_prefix("        - "));
        let listed: BTreeSet<&str> = listed.chain(["malformed"]).collect();
        let tokens = [
            TokenError::Malformed,
            TokenError::Algorithm,
            TokenError::UnsupportedCrit,
            TokenError::UnknownKey,
            TokenError::KeyNotNamed,
            TokenError::Signature,
            TokenError::Expired,
            TokenError::Revoked,
            TokenError::NotYetValid("iat"),
            TokenError::MissingClaim("sub".to_owned()),
            TokenError::InvalidClaim("aud", "does not name this service"),
        ];
        let parsed = ["missing_field", "invalid_type", "invalid_uuid", "out_of_range", "malformed", "unknown_type"];
        let handled =
            [SocketCode::ConversationRequired, ProblemCode::Forbidden.into(), ProblemCode::RateLimited.into()];
        let sent = tokens.iter().map(|error| error.code().as_str());
        assert_eq!(listed, sent.chain(parsed).chain(handled.map(SocketCode::as_str)).collect());
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
