//! Reads messages in the snapshot of the audit reader, to compare them with the trail.

use std::collections::HashMap;

use shared::contract::ids::MessageId;
use time::OffsetDateTime;

use super::reader::{RowCursor, Snapshot};
use crate::audit::message_check::{StoredMessage, StoredText};
use crate::envelope::EnvelopeKeys;
use crate::store::data_keys;
use crate::store::{StoreError, messages};

const BY_ID: &str =
    concat!("select ", messages::columns!("m"), ", m.conversation_id from messages m where m.id = any($1)");

/// Messages without a row that they were sent. One pass over both tables.
const UNSENT_MESSAGES: &str =
    "select m.id, m.sent_at, m.content is not null as is_plain from messages m where not exists (
    select from audit_log l where l.action = 'send' and l.outcome = 201 and l.message_ids[1] = m.id
)";

/// A message that the trail does not know.
#[derive(Debug, Clone, Copy)]
pub struct UnsentMessage {
    /// Its id.
    pub id: MessageId,
    /// When it claims to have been sent, in microseconds since 1970.
    pub sent_at: i64,
    /// Whether it is plain text.
    pub is_plain: bool,
}

impl Snapshot<'_> {
    /// Whether there is a table of messages. An archived trail has none.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn has_messages(&self) -> Result<bool, StoreError> {
        Ok(self.transaction.query_one("select to_regclass('messages') is not null", &[]).await?.try_get(0)?)
    }

    /// Reads from the data keys whether all content is encrypted.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn detect_complete(&self, envelope_keys: &EnvelopeKeys) -> Result<(), StoreError> {
        data_keys::detect_complete(&self.transaction, envelope_keys).await?;
        Ok(())
    }

    /// Reads these messages, opened as far as `envelope_keys` can.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn messages(
        &self,
        ids: &[MessageId],
        envelope_keys: Option<&EnvelopeKeys>,
    ) -> Result<HashMap<MessageId, StoredMessage>, StoreError> {
        let statement = self.transaction.prepare_cached(BY_ID).await?;
        let rows = self.transaction.query(&statement, &[&ids]).await?;
        let opening = data_keys::opening_keys(&self.transaction, envelope_keys, &rows).await?;
        let stored = |row: &tokio_postgres::Row| {
            let (conversation, sender, receiver) = messages::sides(row)?;
            let is_plain = row.try_get::<_, Option<&str>>("content")?.is_some();
            let text = match (messages::message(row, &opening), envelope_keys) {
                (Ok(message), _) if is_plain => StoredText::Plain(message.new.content.as_str().to_owned()),
                (Ok(message), _) => StoredText::Decrypted(message.new.content.as_str().to_owned()),
                (Err(_), None) => StoredText::Sealed,
                (Err(StoreError::Unreadable(_)), _) if is_plain => StoredText::UnexpectedPlain,
                (Err(_), Some(_)) => StoredText::Unreadable,
            };
            let id = row.try_get("id")?;
            let stored = StoredMessage {
                id,
                conversation_id: row.try_get("conversation_id")?,
                location_id: conversation.location().to_string(),
                sender: sender.to_string(),
                receiver: receiver.to_string(),
                text,
            };
            Ok((id, stored))
        };
        rows.iter().map(stored).collect()
    }

    /// Opens a scan of messages without a row; read it with [`Snapshot::next_unsent`].
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn scan_unsent(&self) -> Result<RowCursor, StoreError> {
        self.open_cursor(UNSENT_MESSAGES, &[]).await
    }

    /// The next page of that scan; empty at its end.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn next_unsent(&self, cursor: &RowCursor) -> Result<Vec<UnsentMessage>, StoreError> {
        let unsent = |row: &tokio_postgres::Row| {
            let sent_at: OffsetDateTime = row.try_get(1)?;
            let sent_at = i64::try_from(sent_at.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX);
            Ok(UnsentMessage { id: row.try_get(0)?, sent_at, is_plain: row.try_get(2)? })
        };
        self.next_rows(cursor).await?.iter().map(unsent).collect()
    }
}
