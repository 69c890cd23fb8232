//! A row of an inbox, its version, the snapshot of a conversation, and the cursor between two pages.

use std::str::FromStr;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use shared::contract::ids::ConversationId;
use shared::contract::participant::{Conversation, Participant, ParticipantKind};
use shared::kit::timestamp::timestamp;
use time::OffsetDateTime;
use uuid::Uuid;

use super::message::Message;

/// A conversation as `viewer` sees it.
#[derive(Debug)]
pub struct InboxRow {
    /// The conversation.
    pub conversation: Conversation,
    /// The owner of the inbox. Between two users, the owner is named first.
    pub viewer: Participant,
    /// The last message.
    pub last_message: Message,
    /// Messages to the viewer that are unread.
    pub unread_count: i32,
    /// The `seq` of the first of them. `None` when nothing is unread, or when it is not known.
    pub first_unread_seq: Option<i64>,
    /// When the last message was sent.
    pub last_activity_at: OffsetDateTime,
}

impl Serialize for InboxRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Conversation", 8)?;
        fields.serialize_field("conversation_id", &self.conversation.id())?;
        fields.serialize_field("location_id", self.conversation.location())?;
        let (first, second) = (self.conversation.first(), self.conversation.second());
        let (user, other) = if second.kind == ParticipantKind::User && *second == self.viewer {
            (second, first)
        } else {
            (first, second)
        };
        fields.serialize_field("user_id", &user.id)?;
        fields.serialize_field(
            if other.kind == ParticipantKind::User { "peer_user_id" } else { "contact_id" },
            &other.id,
        )?;
        fields.serialize_field("last_message", &self.last_message)?;
        fields.serialize_field("unread_count", &self.unread_count)?;
        match self.first_unread_seq {
            Some(seq) => fields.serialize_field("first_unread_seq", &seq)?,
            None => fields.skip_field("first_unread_seq")?,
        }
        fields.serialize_field("last_activity_at", &timestamp(self.last_activity_at))?;
        fields.end()
    }
}

impl InboxRow {
    /// The version of the row. It grows with every change, so readers keep the row with the highest version (last writer wins).
    /// Equal versions mean equal rows.
    #[must_use]
    pub fn version(&self) -> i64 {
        version(&self.last_message, self.unread_count)
    }
}

/// A sent message adds 3 (unread by the viewer) or 6; a read message adds 3. Between two messages the last one can only become
/// delivered and read: 1 each, reset by the next message.
fn version(last_message: &Message, unread: i32) -> i64 {
    let receipts = i64::from(last_message.delivered_at.is_some()) + i64::from(last_message.read_at.is_some());
    3 * (2 * last_message.seq - i64::from(unread)) + receipts
}

/// The state of a conversation at one moment, for the inboxes of both participants.
#[derive(Debug, Clone)]
pub struct ConversationSnapshot {
    /// The last message.
    pub last_message: Message,
    /// Unread messages of the first and the second participant.
    pub unread: [i32; 2],
    /// The `seq` of the first of them.
    pub first_unread: [Option<i64>; 2],
    /// When the last message was sent.
    pub last_activity_at: OffsetDateTime,
}

impl ConversationSnapshot {
    /// The conversation.
    #[must_use]
    pub fn conversation(&self) -> &Conversation {
        &self.last_message.new.conversation
    }

    /// Whether this snapshot is older than `other`. Versions of both rows grow, and a change may affect only one row.
    #[must_use]
    pub fn is_before(&self, other: &Self) -> bool {
        let version = |snapshot: &Self| snapshot.unread.map(|unread| version(&snapshot.last_message, unread));
        version(self).iter().sum::<i64>() < version(other).iter().sum()
    }

    /// The row of each participant.
    pub fn rows(&self) -> impl Iterator<Item = InboxRow> {
        let conversation = self.conversation();
        [0, 1]
            .map(|side| InboxRow {
                conversation: conversation.clone(),
                viewer: if side == 0 { conversation.first() } else { conversation.second() }.clone(),
                last_message: self.last_message.clone(),
                unread_count: self.unread[side],
                first_unread_seq: self.first_unread[side],
                last_activity_at: self.last_activity_at,
            })
            .into_iter()
    }
}

/// A conversation whose inbox rows have changed.
#[derive(Debug, Clone)]
pub enum InboxUpdate {
    /// The new state.
    Snapshot(Box<ConversationSnapshot>),
    /// The rows must be read from the database.
    Stale(Conversation),
}

impl InboxUpdate {
    /// The conversation.
    #[must_use]
    pub fn conversation(&self) -> &Conversation {
        match self {
            Self::Snapshot(snapshot) => snapshot.conversation(),
            Self::Stale(conversation) => conversation,
        }
    }

    /// Combines two updates of one conversation, in any order.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        match (self, other) {
            (Self::Snapshot(one), Self::Snapshot(other)) if one.is_before(&other) => Self::Snapshot(other),
            (Self::Snapshot(one), Self::Snapshot(_)) => Self::Snapshot(one),
            (unknown @ Self::Stale(_), _) | (_, unknown) => unknown,
        }
    }
}

/// The end of a page of the inbox. Opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboxCursor {
    /// `last_activity_at` of the last row.
    pub last_activity_at: OffsetDateTime,
    /// Its conversation, which orders rows of the same time.
    pub conversation_id: ConversationId,
}

impl std::fmt::Display for InboxCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}-{}", self.last_activity_at.unix_timestamp_nanos() / 1_000, self.conversation_id.simple())
    }
}

impl FromStr for InboxCursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (micros, id) = text.split_once('-')?;
            let micros = i64::from_str_radix(micros, 16).ok().filter(|micros| *micros >= 0)?;
            let last_activity_at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).ok()?;
            Some(Self { last_activity_at, conversation_id: Uuid::try_parse(id).ok()? })
        };
        parse().ok_or("is not a cursor that this server gave out")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn inbox_row_names_viewer_first() {
        let [a, b]: [Participant; 2] = ["user:a".parse().unwrap(), "user:b".parse().unwrap()];
        let row = |viewer: &Participant| InboxRow {
            conversation: Conversation::new("loc1".parse().unwrap(), a.clone(), b.clone()).unwrap(),
            viewer: viewer.clone(),
            last_message: crate::model::message::tests::example(),
            unread_count: 0,
            first_unread_seq: None,
            last_activity_at: OffsetDateTime::UNIX_EPOCH,
        };
        for (viewer, user, peer) in [(&a, "a", "b"), (&b, "b", "a")] {
            let json = serde_json::to_value(row(viewer)).unwrap();
            assert_eq!((json["user_id"].as_str(), json["peer_user_id"].as_str()), (Some(user), Some(peer)));
        }
    }

    /// `receipts` is 1 when the last message is delivered, 2 when it is read.
    fn snapshot(seq: i64, unread: [i32; 2], receipts: u8) -> ConversationSnapshot {
        let example = crate::model::message::tests::example();
        let at = |is_set: bool| is_set.then_some(OffsetDateTime::UNIX_EPOCH);
        let last_message = Message { seq, delivered_at: at(receipts > 0), read_at: at(receipts > 1), ..example };
        // As if the newest messages were the unread ones.
        let first_unread = unread.map(|count| (count > 0).then(|| seq + 1 - i64::from(count)));
        ConversationSnapshot { last_message, unread, first_unread, last_activity_at: OffsetDateTime::UNIX_EPOCH }
    }

    #[test]
    fn row_version_grows_exactly_when_row_changes() {
        let life = [
            snapshot(1, [0, 1], 0),
            snapshot(1, [0, 1], 1),
            snapshot(1, [0, 0], 2),
            snapshot(3, [0, 2], 0),
            snapshot(4, [1, 2], 0),
            // One participant reads an older message; the other's row does not change.
            snapshot(4, [1, 1], 0),
            snapshot(4, [1, 1], 1),
            snapshot(4, [0, 1], 2),
            snapshot(5, [0, 2], 0),
            snapshot(5, [0, 0], 2),
            snapshot(6, [1, 0], 0),
        ];
        for pair in life.windows(2) {
            assert!(pair[0].is_before(&pair[1]) && !pair[1].is_before(&pair[0]), "{pair:?}");
            for (before, after) in pair[0].rows().zip(pair[1].rows()) {
                let json = |row: &InboxRow| serde_json::to_value(row).unwrap();
                assert!(before.version() <= after.version());
                assert_eq!(before.version() == after.version(), json(&before) == json(&after), "{before:?} {after:?}");
            }
        }
    }

    #[test]
    fn merge_keeps_newer_snapshot_and_staleness() {
        let change = |seq| InboxUpdate::Snapshot(Box::new(snapshot(seq, [0, 0], 0)));
        for (one, other) in [(1, 2), (2, 1)] {
            assert!(
                matches!(change(one).merge(change(other)), InboxUpdate::Snapshot(newer) if newer.last_message.seq == 2)
            );
        }
        let unknown = || InboxUpdate::Stale(change(1).conversation().clone());
        assert!(matches!(change(1).merge(unknown()), InboxUpdate::Stale(_)));
        assert!(matches!(unknown().merge(change(1)), InboxUpdate::Stale(_)));
    }

    #[test]
    fn rows_carry_own_unread_messages() {
        let snapshot = snapshot(5, [3, 0], 0);
        let unread = snapshot.rows().map(|row| (row.viewer.to_string(), row.unread_count, row.first_unread_seq));
        let expected = [("user:doc123".to_owned(), 3, Some(3)), ("contact:pat456".to_owned(), 0, None)];
        assert_eq!(unread.collect::<Vec<_>>(), expected);
        let fields = snapshot.rows().map(|row| serde_json::to_value(&row).unwrap().get("first_unread_seq").cloned());
        assert_eq!(fields.collect::<Vec<_>>(), [Some(3.into()), None], "absent, and not null");
    }

    proptest! {
        #[test]
        fn cursor_round_trips(micros in 0..4_000_000_000_000_000_i64, id: u128) {
            let cursor = InboxCursor {
                last_activity_at: OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).unwrap(),
                conversation_id: Uuid::from_u128(id),
            };
            prop_assert_eq!(cursor.to_string().parse::<InboxCursor>(), Ok(cursor));
        }

        #[test]
        fn cursor_parser_never_panics(text in "\\PC{0,60}") {
            let _ = text.parse::<InboxCursor>();
        }
    }
}
