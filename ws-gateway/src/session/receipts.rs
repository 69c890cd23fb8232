//! Receipts of one socket, on their way to the API service.

use shared::contract::http::request::RequestContext;
use shared::contract::ids::MessageId;
use shared::contract::receipt::{MAX_MESSAGE_IDS, Receipt, ReceiptKind};
use shared::contract::token::Principal;
use time::OffsetDateTime;

use crate::socket::Topic;
use crate::state::AppState;

/// Sends receipts to the API service, which checks that the participant may mark these messages.
pub(super) fn report_receipts(
    app: &AppState,
    topic: &Topic,
    (principal, context): (&Principal, &RequestContext),
    kind: ReceiptKind,
    mut message_ids: Vec<MessageId>,
) {
    let Some(participant) = principal.participant() else { return };
    if message_ids.is_empty() {
        return;
    }
    let now = OffsetDateTime::now_utc();
    // The database stores whole microseconds.
    let at = now.replace_nanosecond(now.nanosecond() / 1000 * 1000).unwrap_or(now);
    while !message_ids.is_empty() {
        let rest = message_ids.split_off(message_ids.len().min(MAX_MESSAGE_IDS));
        let (location, participant) = (topic.location().clone(), participant.clone());
        let request = Some(context.clone());
        app.receipts.enqueue(Receipt { kind, location, participant, message_ids, at, request });
        message_ids = rest;
    }
}
