//! A row of the audit trail, and its canonical bytes.

use shared::contract::audit::AuditEntry;
use time::OffsetDateTime;
use uuid::Uuid;

/// A row without position and hash. Values are as stored: the verifier must also read rows that were tampered with.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the columns, which the migration documents")]
pub struct Row {
    /// Microseconds since 1970.
    pub at: i64,
    pub times: i32,
    pub outcome: i16,
    pub conversation_id: Option<Uuid>,
    pub event_id: Option<Uuid>,
    pub actor: String,
    pub action: String,
    pub acts_for: Option<String>,
    pub counterpart: Option<String>,
    pub location_id: Option<String>,
    pub message_ids: Option<Vec<Uuid>>,
    pub detail: Option<String>,
    pub request_id: Option<String>,
    pub source: Option<String>,
    /// For a sent message: [`super::key::AuditKey::text_mac`].
    pub text_mac: Option<Vec<u8>>,
}

impl From<&AuditEntry> for Row {
    fn from(entry: &AuditEntry) -> Self {
        Self {
            at: i64::try_from(entry.at.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX),
            times: i32::try_from(entry.times).unwrap_or(i32::MAX),
            outcome: i16::try_from(entry.outcome).unwrap_or(i16::MAX),
            conversation_id: entry.conversation,
            event_id: entry.event,
            actor: entry.actor.to_string(),
            action: entry.action.as_str().to_owned(),
            acts_for: entry.acts_for.as_ref().map(ToString::to_string),
            counterpart: entry.counterpart.as_ref().map(ToString::to_string),
            location_id: entry.location.as_ref().map(ToString::to_string),
            message_ids: (!entry.message_ids.is_empty()).then(|| entry.message_ids.clone()),
            detail: entry.detail.clone(),
            request_id: entry.request.as_ref().map(|request| request.request_id.to_string()),
            source: entry.request.as_ref().map(|request| request.address.to_string()),
            text_mac: None,
        }
    }
}

impl Row {
    /// The time, if it is in the calendar's range.
    #[must_use]
    pub fn time(&self) -> Option<OffsetDateTime> {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.at) * 1_000).ok()
    }

    /// Appends the canonical bytes. They are unambiguous: numbers have a fixed length, other values are prefixed with presence
    /// and length.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.at.to_be_bytes());
        out.extend_from_slice(&self.times.to_be_bytes());
        out.extend_from_slice(&self.outcome.to_be_bytes());
        for id in [&self.conversation_id, &self.event_id] {
            field(out, id.as_ref().map(|id| id.as_bytes().as_slice()));
        }
        field(out, Some(self.actor.as_bytes()));
        field(out, Some(self.action.as_bytes()));
        let texts =
            [&self.acts_for, &self.counterpart, &self.location_id, &self.detail, &self.request_id, &self.source];
        for text in texts {
            field(out, text.as_deref().map(str::as_bytes));
        }
        match &self.message_ids {
            None => out.push(0),
            Some(ids) => {
                out.push(1);
                out.extend_from_slice(&(ids.len() as u64).to_be_bytes());
                for id in ids {
                    out.extend_from_slice(id.as_bytes());
                }
            }
        }
        // Rows from before this column existed end here.
        if let Some(mac) = &self.text_mac {
            field(out, Some(mac));
        }
    }
}

fn field(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => out.push(0),
        Some(bytes) => {
            out.push(1);
            out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
            out.extend_from_slice(bytes);
        }
    }
}
