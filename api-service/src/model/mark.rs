//! Marks: a receiver's statement that messages were delivered or read.

use serde::Serialize;
use shared::ids::{LocationId, MessageId};
use shared::participant::Participant;
use shared::receipt::{Receipt, ReceiptKind};
use shared::request::RequestContext;
use time::OffsetDateTime;

/// One receiver's word on some messages.
#[derive(Debug, Clone)]
pub struct Mark {
    /// Delivered or read.
    pub kind: ReceiptKind,
    /// Where the messages may lie.
    pub locations: Vec<LocationId>,
    /// Who must be their receiver.
    pub receiver: Participant,
    /// Which.
    pub message_ids: Vec<MessageId>,
    /// When, by the clock of whoever reports it.
    pub at: OffsetDateTime,
    /// By which request.
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

/// A message that the caller received, as it stands now.
#[derive(Debug, Clone, Serialize)]
pub struct Marked {
    /// Which.
    pub id: MessageId,
    /// Since when its client has it.
    #[serde(serialize_with = "optional_timestamp")]
    pub delivered_at: Option<OffsetDateTime>,
    /// Since when it is read.
    #[serde(serialize_with = "optional_timestamp")]
    pub read_at: Option<OffsetDateTime>,
}

fn optional_timestamp<S: serde::Serializer>(at: &Option<OffsetDateTime>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(shared::timestamp::timestamp).serialize(serializer)
}
