//! What travels from the sockets through Redis to the API service: proof that messages arrived or were read.
//!
//! A receipt is a claim by an authenticated participant; the API service applies it only to messages
//! that this participant received.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::macros::datetime;

use crate::contract::http::problem;
use crate::contract::http::request::RequestContext;
use crate::contract::ids::{LocationId, MessageId};
use crate::contract::participant::Participant;

/// Delivered or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReceiptKind {
    /// The receiver's client has the messages.
    Delivered,
    /// The receiver has read them, which implies delivered.
    Read,
}

impl ReceiptKind {
    /// The `type` of the frame that tells the sender.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Read => "read",
        }
    }

    /// The name of the time, in frames and in messages.
    #[must_use]
    pub fn time_field(self) -> &'static str {
        match self {
            Self::Delivered => "delivered_at",
            Self::Read => "read_at",
        }
    }
}

/// One entry of the `receipts` stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// What happened.
    pub kind: ReceiptKind,
    /// The tenant.
    pub location: LocationId,
    /// Who received the messages.
    pub participant: Participant,
    /// Which messages; at most [`MAX_MESSAGE_IDS`].
    pub message_ids: Vec<MessageId>,
    /// When the gateway saw the proof; whole microseconds.
    pub at: OffsetDateTime,
    /// The handshake of the socket on which it saw it, for the audit trail.
    pub request: Option<RequestContext>,
}

/// Most messages that one receipt, request or frame names.
pub const MAX_MESSAGE_IDS: usize = 500;

#[derive(Serialize, Deserialize)]
struct EncodedReceipt {
    kind: ReceiptKind,
    location: LocationId,
    participant: String,
    message_ids: Vec<MessageId>,
    at_micros: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<IpAddr>,
}

/// An entry of the stream that is not a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a receipt")]
pub struct InvalidReceipt;

impl Receipt {
    /// The value of the stream entry's only field, [`crate::contract::redis::keys::ENTRY_FIELD`].
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn encode(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&EncodedReceipt {
            kind: self.kind,
            location: self.location.clone(),
            participant: self.participant.to_string(),
            message_ids: self.message_ids.clone(),
            at_micros: i64::try_from(self.at.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX),
            request_id: self.request.as_ref().map(|request| request.request_id.to_string()),
            source: self.request.as_ref().map(|request| request.address),
        })
    }

    /// Reads what [`Receipt::encode`] wrote.
    ///
    /// # Errors
    /// [`InvalidReceipt`] for anything else.
    pub fn decode(text: &str) -> Result<Self, InvalidReceipt> {
        let wire: EncodedReceipt = serde_json::from_str(text).map_err(|_| InvalidReceipt)?;
        let at = parse_micros(wire.at_micros);
        if wire.message_ids.len() > MAX_MESSAGE_IDS {
            return Err(InvalidReceipt);
        }
        Ok(Self {
            kind: wire.kind,
            location: wire.location,
            participant: wire.participant.parse().map_err(|_| InvalidReceipt)?,
            message_ids: wire.message_ids,
            at: at.ok_or(InvalidReceipt)?,
            // A gateway of an earlier version names none.
            request: wire.request_id.zip(wire.source).map(|(request_id, address)| RequestContext {
                request_id: problem::accept_request_id(Some(&request_id)).into(),
                address,
            }),
        })
    }
}

/// How far the clock of a gateway may be ahead of this clock.
const CLOCK_SKEW: time::Duration = time::Duration::hours(1);
/// Nothing that a gateway tells of happened before there were any.
const EARLIEST_TIME: OffsetDateTime = datetime!(2020-01-01 0:00 UTC);

/// When something happened, by the word of a gateway, in microseconds since 1970. `None` for times that cannot be: Redis is
/// not ours alone, and what the database cannot hold would stand in the way of all that comes behind it.
pub(crate) fn parse_micros(at_micros: i64) -> Option<OffsetDateTime> {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_micros) * 1_000).ok()?;
    (at >= EARLIEST_TIME && at <= OffsetDateTime::now_utc() + CLOCK_SKEW).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn receipt_survives_a_round_trip() {
        let receipt = Receipt {
            kind: ReceiptKind::Read,
            location: "loc1".parse().unwrap(),
            participant: "contact:pat456".parse().unwrap(),
            message_ids: vec![Uuid::from_u128(1), Uuid::from_u128(2)],
            at: OffsetDateTime::from_unix_timestamp_nanos(1_790_000_000_123_456_000).unwrap(),
            request: None,
        };
        assert_eq!(Receipt::decode(&receipt.encode().unwrap()), Ok(receipt.clone()));
        let request = Some(RequestContext { request_id: "r1".into(), address: [203, 0, 113, 9].into() });
        let receipt = Receipt { request, ..receipt };
        assert_eq!(Receipt::decode(&receipt.encode().unwrap()), Ok(receipt));
    }

    #[test]
    fn invalid_receipts_are_rejected() {
        for text in
            ["", "{}", "[]", r#"{"kind":"seen","location":"l","participant":"user:a","message_ids":[],"at_micros":0}"#]
        {
            assert_eq!(Receipt::decode(text), Err(InvalidReceipt), "{text}");
        }
        let far =
            r#"{"kind":"read","location":"l","participant":"user:a","message_ids":[],"at_micros":9223372036854775807}"#;
        assert_eq!(Receipt::decode(far), Err(InvalidReceipt));
    }
}
