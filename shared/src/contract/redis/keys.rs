//! Names in Redis of conversations, inboxes, streams, tickets and revocations. Only this folder formats a name in Redis.
//!
//! The part in braces is what a Redis Cluster hashes: a conversation's channel and log share a slot,
//! so one script may work on both. So do an inbox's channel and what is kept of its rows.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};

use crate::contract::ids::{ConversationId, LocationId};
use crate::contract::participant::{Conversation, Participant};
use crate::contract::ticket::Ticket;

/// Where the live events of one conversation are published, `chat:{LOCATION:CONVERSATION}`, or the rows of one participant's
/// inbox, `inbox:{LOCATION:KIND:ID}`, or who comes online in a location, `presence:{LOCATION}`. Clones share the name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Channel(Arc<str>);

impl Channel {
    /// The channel of a conversation, by its parts.
    #[must_use]
    pub fn new(location: &LocationId, conversation: ConversationId) -> Self {
        Self(format!("chat:{{{location}:{conversation}}}").into())
    }

    /// The channel of a participant's inbox. It has no log: each row that is published there is state.
    #[must_use]
    pub fn inbox(location: &LocationId, whose: &Participant) -> Self {
        Self(format!("{INBOX_PREFIX}{{{location}:{whose}}}").into())
    }

    /// The channel of who comes online in a location. It has no log either.
    #[must_use]
    pub fn presence(location: &LocationId) -> Self {
        Self(super::presence::PresenceKeys::new(location).channel().into())
    }

    /// Whether it is that of a location's presence.
    #[must_use]
    pub fn is_presence(&self) -> bool {
        self.0.starts_with(super::presence::PRESENCE_PREFIX)
    }

    /// Whether it is that of an inbox.
    #[must_use]
    pub fn is_inbox(&self) -> bool {
        self.0.starts_with(INBOX_PREFIX)
    }

    /// Of an inbox: the key that holds briefly the version of the row that was last published for a conversation.
    #[must_use]
    pub fn row_version_key(&self, conversation: ConversationId) -> String {
        format!("{}:{conversation}", self.0)
    }

    /// A key in the channel's slot. Writing it tests whether the node accepts writes.
    #[must_use]
    pub fn probe_key(&self) -> String {
        format!("{}:probe", self.0)
    }

    /// The location and the conversation, of a conversation's channel: for logs.
    #[must_use]
    pub fn conversation(&self) -> Option<(&str, &str)> {
        self.0.strip_prefix("chat:{")?.strip_suffix('}')?.split_once(':')
    }

    /// The channel's name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The stream that holds the conversation's last events.
    #[must_use]
    pub fn log_key(&self) -> String {
        format!("{}:log", self.0)
    }
}

/// The conversation whose events are published on a channel; `None` when it is not such a channel.
#[must_use]
pub fn parse_conversation(channel: &str) -> Option<(LocationId, ConversationId)> {
    let (location, conversation) = channel.strip_prefix(CHAT_PREFIX)?.strip_suffix('}')?.split_once(':')?;
    Some((location.parse().ok()?, ConversationId::try_parse(conversation).ok()?))
}

/// What the names of conversations begin with.
const CHAT_PREFIX: &str = "chat:{";
/// What the names of inboxes begin with.
const INBOX_PREFIX: &str = "inbox:";

/// So that a map by channel can be asked with the bare name that Redis delivers. Hash and equality are those of the text.
impl std::borrow::Borrow<str> for Channel {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<&Conversation> for Channel {
    fn from(conversation: &Conversation) -> Self {
        Self::new(conversation.location(), conversation.id())
    }
}

/// Stream of receipts, gateways → API service.
pub const RECEIPT_STREAM: &str = "receipts";
/// Stream of entries of the audit trail, gateways → API service.
pub const AUDIT_STREAM: &str = "audit";
/// Stream of questions, gateways → API service: [`crate::contract::presence::ConversationCheck`].
pub const CONVERSATION_CHECK_STREAM: &str = "conversation_checks";
/// Consumer group of the API instances on [`RECEIPT_STREAM`], [`AUDIT_STREAM`] and [`CONVERSATION_CHECK_STREAM`].
pub const API_GROUP: &str = "api";
/// The only field of an entry of these.
pub const ENTRY_FIELD: &str = "r";
/// Entries that [`RECEIPT_STREAM`] may hold; beyond it the oldest give way, which costs a late `delivered`.
pub const RECEIPT_STREAM_CAPACITY: usize = 1_000_000;
/// Entries that [`CONVERSATION_CHECK_STREAM`] may hold. Beyond that the oldest are dropped, and presence of some participants
/// stays hidden.
pub const CONVERSATION_CHECK_STREAM_CAPACITY: usize = 100_000;
/// Entries that [`AUDIT_STREAM`] may hold; beyond it no more are taken, and gateways keep what they have.
pub const AUDIT_STREAM_CAPACITY: usize = 1_000_000;

/// Sorted set of revoked tokens, with a marker that says whether it is complete: see [`super::revocations`].
pub const REVOCATIONS_KEY: &str = "revoked";

/// The key of a ticket: its hash, so that a reader of names in Redis holds no ticket. A key with a life, taken with `GETDEL`,
/// so that of several requests with one ticket only one succeeds.
#[must_use]
pub fn ticket_key(ticket: &Ticket) -> String {
    let hash = digest(&SHA256, ticket.expose().as_bytes());
    hash.as_ref().iter().fold(String::from("ticket:"), |name, byte| format!("{name}{byte:02x}"))
}

/// Fields of an entry of a conversation's log that a reader needs: the frame's type (empty in the entry that opens a
/// log), the header behind its cursor, and the frame behind its cursor. Before them stands `s`, for the publishing script
/// only: the `seq` of the newest message up to there.
pub const LOG_FIELDS: [&str; 3] = ["t", "h", "b"];

/// What [`super::scripts::RENAME_WRONG_TYPE`] adds to a name: no two moves meet.
#[must_use]
pub fn moved_suffix() -> String {
    format!(":moved:{}", uuid::Uuid::now_v7())
}

/// A key beside a stream, in its slot. It names the data since the last flush, which removes it.
#[must_use]
pub fn stream_birth_key(stream: &str) -> String {
    format!("{{{stream}}}:birth")
}

/// How long a log lives that no event was added to, in milliseconds: two minutes. Any participant may open one for any pair, so it must
/// not stay for as long as a log that holds something. A gateway whose sockets listen refreshes it.
pub const MARKER_TTL_MILLIS: u64 = 2 * 60 * 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn names_carry_conversation_in_hash_tag() {
        let channel = Channel::new(&"loc1".parse().unwrap(), Uuid::from_u128(1));
        assert_eq!(channel.as_str(), "chat:{loc1:00000000-0000-0000-0000-000000000001}");
        assert_eq!(channel.log_key(), "chat:{loc1:00000000-0000-0000-0000-000000000001}:log");
        assert_eq!(parse_conversation(channel.as_str()), Some(("loc1".parse().unwrap(), Uuid::from_u128(1))));
        for other in
            [channel.log_key().as_str(), "inbox:{loc1:user:a}", "presence:{loc1}", "chat:{loc1}", "chat:{loc1:x}"]
        {
            assert_eq!(parse_conversation(other), None, "{other}");
        }
    }

    #[test]
    fn inbox_keys_share_the_owners_hash_tag() {
        let channel = Channel::inbox(&"loc1".parse().unwrap(), &"contact:pat456".parse().unwrap());
        assert_eq!(channel.as_str(), "inbox:{loc1:contact:pat456}");
        assert_eq!(
            channel.row_version_key(Uuid::from_u128(1)),
            "inbox:{loc1:contact:pat456}:00000000-0000-0000-0000-000000000001"
        );
        assert!(channel.is_inbox() && !Channel::new(&"inbox".parse().unwrap(), Uuid::from_u128(1)).is_inbox());
    }

    #[test]
    fn map_by_channel_accepts_plain_text() {
        let channel = Channel::new(&"loc1".parse().unwrap(), Uuid::from_u128(1));
        let rooms = std::collections::HashMap::from([(channel.clone(), 7)]);
        assert_eq!(rooms.get(channel.as_str()), Some(&7));
    }
}
