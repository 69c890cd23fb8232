//! Rebuilds the events of outbox rows from the messages that they name. What cannot be rebuilt fails alone, with a reason; the
//! rest of its row and all other rows proceed.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use deadpool_postgres::Transaction;
use shared::contract::event::OutgoingEvent;
use shared::contract::ids::{ConversationId, LocationId, MessageId};
use shared::contract::receipt::ReceiptKind;
use shared::contract::redis::keys::Channel;
use shared::kit::timestamp::timestamp;
use time::OffsetDateTime;
use tokio_postgres::Row;

use super::{OutboxEntry, OutboxEvent};
use crate::envelope::EnvelopeKeys;
use crate::model::inbox::{ConversationSnapshot, InboxUpdate};
use crate::model::message::Message;
use crate::store::data_keys;
use crate::store::{StoreError, conversations, messages};

/// Why a row or message cannot be rebuilt: a code that is stored, logged and counted.
pub(super) type Reason = &'static str;

/// The row is malformed.
const MALFORMED_ROW: Reason = "malformed_row";
/// The message does not exist.
const MESSAGE_MISSING: Reason = "message_missing";
/// A column of the message is malformed.
const MALFORMED_MESSAGE: Reason = "malformed_message";
/// The text was altered or belongs to another message.
const CONTENT_TAMPERED: Reason = "content_refused";
/// The key of the text is missing or does not open.
const CONTENT_KEY_MISSING: Reason = "content_key_missing";

/// All reasons, for the metric.
pub const REASONS: &[Reason] =
    &[MALFORMED_ROW, MESSAGE_MISSING, MALFORMED_MESSAGE, CONTENT_TAMPERED, CONTENT_KEY_MISSING];

/// The result for some rows.
#[derive(Default)]
pub(super) struct Rebuilt {
    /// Entries with at least one event.
    pub(super) entries: Vec<OutboxEntry>,
    /// Rows without any publishable event.
    pub(super) failed: Vec<(i64, Reason)>,
    /// Messages that failed while the rest of their row proceeds.
    pub(super) failed_messages: Vec<(i64, MessageId, Reason)>,
    /// Number of messages that the rows name.
    pub(super) named: usize,
}

/// The contents of a row.
struct RowContents<'a> {
    id: i64,
    message_ids: Vec<MessageId>,
    receipt: Option<(ReceiptKind, &'a str, ConversationId, OffsetDateTime)>,
}

/// Rebuilds rows with the columns id, location_id, conversation_id, kind, message_ids, at.
///
/// # Errors
/// [`StoreError`] when the database does not answer; never because of the content of a row.
pub(super) async fn rebuild(
    transaction: &Transaction<'_>,
    envelope_keys: Option<&EnvelopeKeys>,
    rows: &[Row],
) -> Result<Rebuilt, StoreError> {
    let mut rebuilt = Rebuilt::default();
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        // A time out of range makes the driver panic.
        match catch_unwind(AssertUnwindSafe(|| row_contents(row))) {
            Ok(Ok(contents)) => all.push(contents),
            Ok(Err(_)) | Err(_) => rebuilt.failed.push((row.try_get("id")?, MALFORMED_ROW)),
        }
    }
    rebuilt.named = all.iter().map(|row| row.message_ids.len()).sum::<usize>() + rebuilt.failed.len();
    let sent = all.iter().filter(|row| row.receipt.is_none()).flat_map(|row| row.message_ids.iter().copied());
    let messages = read(transaction, envelope_keys, sent.collect()).await?;
    let mut snapshots = snapshots(transaction, envelope_keys, &all, &messages).await?;
    for row in all {
        match row.receipt {
            Some((kind, location, conversation, at)) => {
                match receipt(kind, location, conversation, &row.message_ids, at) {
                    Some(event) => {
                        let updates = snapshots.remove(&conversation).into_iter();
                        let updates = updates.map(|snapshot| InboxUpdate::Snapshot(Box::new(snapshot))).collect();
                        rebuilt.entries.push(OutboxEntry { id: row.id, events: vec![event], updates });
                    }
                    None => rebuilt.failed.push((row.id, MALFORMED_ROW)),
                }
            }
            None => add_messages(&mut rebuilt, row.id, &row.message_ids, &messages, &mut snapshots),
        }
    }
    Ok(rebuilt)
}

fn add_messages(
    rebuilt: &mut Rebuilt,
    id: i64,
    message_ids: &[MessageId],
    messages: &HashMap<MessageId, Result<Message, Reason>>,
    snapshots: &mut HashMap<ConversationId, ConversationSnapshot>,
) {
    let mut entry = OutboxEntry { id, events: Vec::with_capacity(message_ids.len()), updates: Vec::new() };
    let mut failed = Vec::new();
    for message_id in message_ids {
        let event = match messages.get(message_id) {
            Some(Ok(message)) => event(message).inspect(|_| {
                // The first entry of a conversation carries its snapshot.
                let updates = snapshots.remove(&message.new.conversation.id());
                entry.updates.extend(updates.map(|snapshot| InboxUpdate::Snapshot(Box::new(snapshot))));
            }),
            Some(Err(reason)) => Err(*reason),
            None => Err(MESSAGE_MISSING),
        };
        match event {
            Ok(event) => entry.events.push(event),
            Err(reason) => failed.push((*message_id, reason)),
        }
    }
    if entry.events.is_empty() {
        rebuilt.failed.push((id, failed.first().map_or(MALFORMED_ROW, |(_, reason)| *reason)));
        return;
    }
    rebuilt.failed_messages.extend(failed.into_iter().map(|(message_id, reason)| (id, message_id, reason)));
    rebuilt.entries.push(entry);
}

fn row_contents(row: &Row) -> Result<RowContents<'_>, tokio_postgres::Error> {
    let message_ids = row.try_get::<_, Vec<MessageId>>("message_ids")?;
    let kind = match row.try_get("kind")? {
        "delivered" => Some(ReceiptKind::Delivered),
        "read" => Some(ReceiptKind::Read),
        "message" => None,
        // The row names nothing to publish.
        _ => return Ok(RowContents { id: row.try_get("id")?, message_ids: Vec::new(), receipt: None }),
    };
    let receipt = match kind {
        Some(kind) => Some((kind, row.try_get("location_id")?, row.try_get("conversation_id")?, row.try_get("at")?)),
        None => None,
    };
    Ok(RowContents { id: row.try_get("id")?, message_ids, receipt })
}

fn receipt(
    kind: ReceiptKind,
    location: &str,
    conversation: ConversationId,
    message_ids: &[MessageId],
    at: OffsetDateTime,
) -> Option<OutboxEvent> {
    let location: LocationId = location.parse().ok()?;
    let channel = Channel::new(&location, conversation);
    let draft = OutgoingEvent::receipt(kind, message_ids, &timestamp(at));
    (!message_ids.is_empty()).then_some(OutboxEvent { channel, draft })
}

fn event(message: &Message) -> Result<OutboxEvent, Reason> {
    let json = message.to_json().map_err(|_| MALFORMED_MESSAGE)?;
    Ok(OutboxEvent { channel: Channel::from(&message.new.conversation), draft: message.event(&json) })
}

/// Reads these messages; each is readable, or has the reason why it is not.
async fn read(
    transaction: &Transaction<'_>,
    envelope_keys: Option<&EnvelopeKeys>,
    ids: Vec<MessageId>,
) -> Result<HashMap<MessageId, Result<Message, Reason>>, StoreError> {
    let statement = transaction
        .prepare_cached(concat!("select ", messages::columns!("m"), " from messages m where m.id = any($1)"))
        .await?;
    let found = transaction.query(&statement, &[&ids]).await?;
    let opening = data_keys::opening_keys(transaction, envelope_keys, &found).await?;
    let mut messages = HashMap::with_capacity(found.len());
    for row in &found {
        let message = messages::readable(row, &opening).map_err(|error| match error {
            StoreError::Unreadable(_) => CONTENT_TAMPERED,
            _ if opening.lacks_key_of(row) => CONTENT_KEY_MISSING,
            _ => MALFORMED_MESSAGE,
        });
        messages.insert(row.try_get("id")?, message);
    }
    Ok(messages)
}

/// Snapshots of the conversations of these rows, including later changes: only the latest inbox row matters. Unreadable ones are
/// left out.
async fn snapshots(
    transaction: &Transaction<'_>,
    envelope_keys: Option<&EnvelopeKeys>,
    rows: &[RowContents<'_>],
    messages: &HashMap<MessageId, Result<Message, Reason>>,
) -> Result<HashMap<ConversationId, ConversationSnapshot>, StoreError> {
    let written = messages.values().flatten().map(|message| {
        let conversation = &message.new.conversation;
        (conversation.id(), conversation.location().as_str())
    });
    let marked =
        rows.iter().filter_map(|row| row.receipt.map(|(_, location, conversation, _)| (conversation, location)));
    let concerned: HashSet<(ConversationId, &str)> = written.chain(marked).collect();
    let (ids, locations): (Vec<_>, Vec<_>) = concerned.into_iter().unzip();
    let snapshots = conversations::snapshots(transaction, envelope_keys, &ids, &locations).await?;
    Ok(snapshots.into_iter().map(|found| (found.conversation().id(), found)).collect())
}
