//! A conversation as a row of its participants' inboxes, the version of such a row, and the cursor between two pages.

use std::str::FromStr;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use shared::ids::ConversationId;
use shared::participant::{Conversation, Participant, ParticipantKind};
use shared::timestamp::timestamp;
use time::OffsetDateTime;
use uuid::Uuid;

use super::message::Message;

/// One conversation as `viewer` sees it.
#[derive(Debug)]
pub struct Row {
    /// Which.
    pub conversation: Conversation,
    /// Whose inbox this is: of two users, the one to be named first.
    pub viewer: Participant,
    /// The newest message.
    pub last_message: Message,
    /// Messages to the viewer that it has not read.
    pub unread_count: i32,
    /// When the newest message was sent.
    pub last_activity_at: OffsetDateTime,
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Conversation", 7)?;
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
        fields.serialize_field("last_activity_at", &timestamp(self.last_activity_at))?;
        fields.end()
    }
}

impl Row {
    /// Counts up with every change of a row, so that of two states the later one is known, whoever tells of it and whenever;
    /// equal when the row is the same.
    #[must_use]
    pub fn newness(&self) -> i64 {
        newness(&self.last_message, self.unread_count)
    }
}

/// A message counts three or six, one that is read three. In between, the newest message can only be delivered and read, once
/// each: that counts one, and begins anew with the next message.
fn newness(last_message: &Message, unread: i32) -> i64 {
    let told = i64::from(last_message.delivered_at.is_some()) + i64::from(last_message.read_at.is_some());
    3 * (2 * last_message.seq - i64::from(unread)) + told
}

/// How a conversation stands at one moment, for the inboxes of both its participants.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The newest message.
    pub last_message: Message,
    /// Messages to the first and to the second participant that it has not read.
    pub unread: [i32; 2],
    /// When the newest message was sent.
    pub last_activity_at: OffsetDateTime,
}

impl Standing {
    /// Which conversation.
    #[must_use]
    pub fn conversation(&self) -> &Conversation {
        &self.last_message.new.conversation
    }

    /// Whether this was so before `other` was. The rows of both count up, and a change may leave one of them as it is.
    #[must_use]
    pub fn is_before(&self, other: &Self) -> bool {
        let newness = |standing: &Self| standing.unread.map(|unread| newness(&standing.last_message, unread));
        newness(self).iter().sum::<i64>() < newness(other).iter().sum()
    }

    /// As each of the two sees it.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        let conversation = self.conversation();
        [conversation.first(), conversation.second()].into_iter().zip(self.unread).map(|(viewer, unread_count)| Row {
            conversation: conversation.clone(),
            viewer: viewer.clone(),
            last_message: self.last_message.clone(),
            unread_count,
            last_activity_at: self.last_activity_at,
        })
    }
}

/// A conversation whose rows have changed.
#[derive(Debug, Clone)]
pub enum Changed {
    /// To this.
    To(Box<Standing>),
    /// To what must be asked for.
    Somehow(Conversation),
}

impl Changed {
    /// Which conversation.
    #[must_use]
    pub fn conversation(&self) -> &Conversation {
        match self {
            Self::To(standing) => standing.conversation(),
            Self::Somehow(conversation) => conversation,
        }
    }

    /// What is known after both, whichever came first: they are of one conversation.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::To(one), Self::To(other)) if one.is_before(&other) => Self::To(other),
            (Self::To(one), Self::To(_)) => Self::To(one),
            (unknown @ Self::Somehow(_), _) | (_, unknown) => unknown,
        }
    }
}

/// Where a page of the inbox ends and the next begins. Opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboxCursor {
    /// `last_activity_at` of the last row.
    pub last_activity_at: OffsetDateTime,
    /// Its conversation, for rows of the same moment.
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
    fn a_user_sees_itself_first_whichever_way_the_pair_is_stored() {
        let [a, b]: [Participant; 2] = ["user:a".parse().unwrap(), "user:b".parse().unwrap()];
        let row = |viewer: &Participant| Row {
            conversation: Conversation::new("loc1".parse().unwrap(), a.clone(), b.clone()).unwrap(),
            viewer: viewer.clone(),
            last_message: crate::model::message::tests::example(),
            unread_count: 0,
            last_activity_at: OffsetDateTime::UNIX_EPOCH,
        };
        for (viewer, user, peer) in [(&a, "a", "b"), (&b, "b", "a")] {
            let json = serde_json::to_value(row(viewer)).unwrap();
            assert_eq!((json["user_id"].as_str(), json["peer_user_id"].as_str()), (Some(user), Some(peer)));
        }
    }

    /// `told`: the newest message is delivered, or read.
    fn standing(seq: i64, unread: [i32; 2], told: u8) -> Standing {
        let example = crate::model::message::tests::example();
        let at = |is_told: bool| is_told.then_some(OffsetDateTime::UNIX_EPOCH);
        let last_message = Message { seq, delivered_at: at(told > 0), read_at: at(told > 1), ..example };
        Standing { last_message, unread, last_activity_at: OffsetDateTime::UNIX_EPOCH }
    }

    #[test]
    fn a_rows_newness_counts_up_whenever_it_changes_and_only_then() {
        let life = [
            standing(1, [0, 1], 0),
            standing(1, [0, 1], 1),
            standing(1, [0, 0], 2),
            standing(3, [0, 2], 0),
            standing(4, [1, 2], 0),
            // The one reads an older message: the other's row stays as it is.
            standing(4, [1, 1], 0),
            standing(4, [1, 1], 1),
            standing(4, [0, 1], 2),
            standing(5, [0, 2], 0),
            standing(5, [0, 0], 2),
            standing(6, [1, 0], 0),
        ];
        for pair in life.windows(2) {
            assert!(pair[0].is_before(&pair[1]) && !pair[1].is_before(&pair[0]), "{pair:?}");
            for (before, after) in pair[0].rows().zip(pair[1].rows()) {
                let json = |row: &Row| serde_json::to_value(row).unwrap();
                assert!(before.newness() <= after.newness());
                assert_eq!(before.newness() == after.newness(), json(&before) == json(&after), "{before:?} {after:?}");
            }
        }
    }

    #[test]
    fn of_two_changes_the_newer_one_counts_and_what_must_be_asked_for_is_asked_for() {
        let change = |seq| Changed::To(Box::new(standing(seq, [0, 0], 0)));
        for (one, other) in [(1, 2), (2, 1)] {
            assert!(matches!(change(one).and(change(other)), Changed::To(newer) if newer.last_message.seq == 2));
        }
        let unknown = || Changed::Somehow(change(1).conversation().clone());
        assert!(matches!(change(1).and(unknown()), Changed::Somehow(_)));
        assert!(matches!(unknown().and(change(1)), Changed::Somehow(_)));
    }

    #[test]
    fn each_of_the_two_sees_its_own_count() {
        let counts: Vec<_> =
            standing(5, [3, 2], 0).rows().map(|row| (row.viewer.to_string(), row.unread_count)).collect();
        assert_eq!(counts, [("user:doc123".to_owned(), 3), ("contact:pat456".to_owned(), 2)]);
    }

    proptest! {
        #[test]
        fn cursors_survive_being_written(micros in 0..4_000_000_000_000_000_i64, id: u128) {
            let cursor = InboxCursor {
                last_activity_at: OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).unwrap(),
                conversation_id: Uuid::from_u128(id),
            };
            prop_assert_eq!(cursor.to_string().parse::<InboxCursor>(), Ok(cursor));
        }

        #[test]
        fn no_text_makes_the_cursor_parser_panic(text in "\\PC{0,60}") {
            let _ = text.parse::<InboxCursor>();
        }
    }
}
