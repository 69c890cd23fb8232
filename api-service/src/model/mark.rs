//! Marks: a receiver's statement that messages were delivered or read.

use serde::Serialize;
use shared::contract::http::request::RequestContext;
use shared::contract::ids::{LocationId, MessageId};
use shared::contract::participant::Participant;
use shared::contract::receipt::{Receipt, ReceiptKind};
use time::OffsetDateTime;

/// One receiver's marks.
#[derive(Debug, Clone)]
pub struct Mark {
    /// Delivered or read.
    pub kind: ReceiptKind,
    /// Locations in which the messages may be.
    pub locations: Vec<LocationId>,
    /// The receiver that the messages must have.
    pub receiver: Participant,
    /// The messages.
    pub message_ids: Vec<MessageId>,
    /// When, by the reporter's clock.
    pub at: OffsetDateTime,
    /// The request that reported it.
    pub request: Option<RequestContext>,
}

impl From<Receipt> for Mark {
    fn from(receipt: Receipt) -> Self {
        Self {
            kind: receipt.kind,
            locations: vec![receipt.location],
            receiver: receipt.participant,
            message_ids: receipt.message_ids,
            at: receipt.at,
            request: receipt.request,
        }
    }
}

/// The current state of a message that the caller received.
#[derive(Debug, Clone, Serialize)]
pub struct Marked {
    /// Its id.
    pub id: MessageId,
    #[serde(serialize_with = "optional_timestamp")]
    /// When it was delivered.
    pub delivered_at: Option<OffsetDateTime>,
    #[serde(serialize_with = "optional_timestamp")]
    /// When it was read.
    pub read_at: Option<OffsetDateTime>,
}

fn optional_timestamp<S: serde::Serializer>(at: &Option<OffsetDateTime>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(shared::kit::timestamp::timestamp).serialize(serializer)
}
