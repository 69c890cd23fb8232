//! Events before Redis has given them their position.

use std::sync::Arc;

use super::Recipient;
use crate::contract::ids::MessageId;
use crate::contract::receipt::ReceiptKind;
use crate::kit::crypto::redacted::Redacted;

/// An event before Redis has given it its place.
#[derive(Debug, Clone)]
pub struct OutgoingEvent {
    /// Value of the frame's `type`.
    pub kind: &'static str,
    /// Set for messages only.
    pub recipient: Option<Recipient>,
    /// A message's place in its conversation, which is its place among the published ones as well.
    pub seq: Option<i64>,
    /// The frame behind its `cursor`, up to and with the closing brace.
    pub body: Redacted<String>,
    /// The request that it comes from, while that is known.
    pub request_id: Option<Arc<str>>,
}

impl OutgoingEvent {
    /// A `message` frame around a message that is JSON already, the `seq`th of its conversation.
    #[must_use]
    pub fn message(json: &str, recipient: Recipient, seq: i64) -> Self {
        let rest = ["\"message\":", json, "}"].concat();
        Self { kind: "message", recipient: Some(recipient), seq: Some(seq), body: rest.into(), request_id: None }
    }

    /// A `delivered` or `read` frame, for the sender of the messages. `at` is the time as clients read it; it needs no JSON
    /// escapes.
    #[must_use]
    pub fn receipt(kind: ReceiptKind, message_ids: &[MessageId], at: &str) -> Self {
        let ids: Vec<String> = message_ids.iter().map(|id| format!("\"{id}\"")).collect();
        let rest = format!("\"message_ids\":[{}],\"{}\":\"{at}\"}}", ids.join(","), kind.time_field());
        Self { kind: kind.as_str(), recipient: None, seq: None, body: rest.into(), request_id: None }
    }

    /// The header behind its cursor; empty when no delivery is to be proven.
    #[must_use]
    pub fn header(&self) -> String {
        self.recipient.as_ref().map(ToString::to_string).unwrap_or_default()
    }
}
