//! The conversations of one participant, newest activity first.

use std::str::FromStr;

use futures_util::future::try_join;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use shared::audit::Action;
use shared::ids::{ConversationId, LocationId};
use shared::participant::{Conversation, Kind, Participant};
use time::OffsetDateTime;
use uuid::Uuid;

use super::error::Refused;
use super::message::{Message, timestamp};
use super::origin::Origin;
use crate::auditor::Auditor;
use crate::store::Store;

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
        let (user, other) =
            if second.kind == Kind::User && *second == self.viewer { (second, first) } else { (first, second) };
        fields.serialize_field("user_id", &user.id)?;
        fields.serialize_field(if other.kind == Kind::User { "peer_user_id" } else { "contact_id" }, &other.id)?;
        fields.serialize_field("last_message", &self.last_message)?;
        fields.serialize_field("unread_count", &self.unread_count)?;
        fields.serialize_field("last_activity_at", &timestamp(self.last_activity_at))?;
        fields.end()
    }
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

    /// Counts up with every change of the conversation's rows, so that of two moments the later one is known whoever tells
    /// of it: by one with each message sent, and with each message read; and of these, the delivery of the newest message
    /// is the only change that comes in between.
    #[must_use]
    pub fn newness(&self) -> i64 {
        let sent = self.last_message.seq;
        let read = sent - self.unread.iter().copied().map(i64::from).sum::<i64>();
        2 * (sent + read) + i64::from(self.last_message.delivered_at.is_some())
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
            (Self::To(one), Self::To(other)) if one.newness() < other.newness() => Self::To(other),
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

/// A page of the inbox.
#[derive(Debug, Serialize)]
pub struct Inbox {
    /// Newest activity first.
    pub conversations: Vec<Row>,
    /// What brings the next page; `null` on the last.
    #[serde(serialize_with = "optional_display")]
    pub next_cursor: Option<InboxCursor>,
}

fn optional_display<S: Serializer>(cursor: &Option<InboxCursor>, serializer: S) -> Result<S::Ok, S::Error> {
    cursor.map(|cursor| cursor.to_string()).serialize(serializer)
}

/// A page of at most `limit` conversations. That somebody looked is on disk before anybody sees it. `whose` names the participant: a service must, a person need not.
///
/// # Errors
/// [`Refused`]
pub async fn inbox(
    origin: &Origin,
    (store, auditor): (&Store, &Auditor),
    location: &LocationId,
    whose: Option<Participant>,
    cursor: Option<InboxCursor>,
    limit: u16,
) -> Result<Inbox, Refused> {
    let principal = &origin.principal;
    principal.check_location(location)?;
    let viewer = match (whose, principal.person()) {
        (Some(whose), _) => whose,
        (None, Some(person)) => person.clone(),
        (None, None) => {
            return Err(Refused::Field("?user_id", "or `contact_id` must say whose inbox, for a service token"));
        }
    };
    principal.check_acts_as(location, &viewer)?;
    let limit = usize::from(limit);
    let read = async { Ok(store.inbox(location, &viewer, cursor, limit + 1).await?) };
    let entry = origin.entry(Action::InboxRead, 200).of_participant(location, &viewer);
    let (mut conversations, ()) = try_join(read, auditor.record(entry)).await?;
    let more = conversations.len() > limit;
    conversations.truncate(limit);
    let next_cursor = conversations
        .last()
        .filter(|_| more)
        .map(|row| InboxCursor { last_activity_at: row.last_activity_at, conversation_id: row.conversation.id() });
    Ok(Inbox { conversations, next_cursor })
}

/// Two query parameters name one participant.
///
/// # Errors
/// When both are there.
pub fn one_of(user: Option<Participant>, contact: Option<Participant>) -> Result<Option<Participant>, Refused> {
    match (user, contact) {
        (Some(_), Some(_)) => Err(Refused::Field("?contact_id", "and `user_id` cannot both be given")),
        (user, contact) => Ok(user.or(contact)),
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
            last_message: crate::domain::message::tests::example(),
            unread_count: 0,
            last_activity_at: OffsetDateTime::UNIX_EPOCH,
        };
        for (viewer, user, peer) in [(&a, "a", "b"), (&b, "b", "a")] {
            let json = serde_json::to_value(row(viewer)).unwrap();
            assert_eq!((json["user_id"].as_str(), json["peer_user_id"].as_str()), (Some(user), Some(peer)));
        }
    }

    fn standing(seq: i64, unread: [i32; 2], is_delivered: bool) -> Standing {
        let example = crate::domain::message::tests::example();
        let delivered_at = is_delivered.then_some(OffsetDateTime::UNIX_EPOCH);
        let last_message = Message { seq, delivered_at, ..example };
        Standing { last_message, unread, last_activity_at: OffsetDateTime::UNIX_EPOCH }
    }

    #[test]
    fn every_change_is_newer_than_the_one_before() {
        let life = [
            standing(1, [0, 1], false),
            standing(1, [0, 1], true),
            standing(1, [0, 0], true),
            standing(3, [0, 2], false),
            standing(4, [1, 2], false),
            standing(4, [1, 1], false),
            standing(4, [1, 1], true),
            standing(4, [0, 1], true),
            standing(5, [0, 2], false),
            standing(5, [0, 0], true),
        ];
        assert!(life.is_sorted_by(|before, after| before.newness() < after.newness()));
    }

    #[test]
    fn of_two_changes_the_newer_one_counts_and_what_must_be_asked_for_is_asked_for() {
        let change = |seq| Changed::To(Box::new(standing(seq, [0, 0], false)));
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
            standing(5, [3, 2], false).rows().map(|row| (row.viewer.to_string(), row.unread_count)).collect();
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
