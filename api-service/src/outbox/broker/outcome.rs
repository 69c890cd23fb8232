//! What became of an event that was to be published, and how far a refusal reaches: one conversation, or one node of Redis.

use fred::error::Error;
use shared::redis::is_answer;

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishOutcome {
    /// Redis has it, or nobody needs it.
    Published,
    /// It came before another instance has published the message that it follows. It can be tried again.
    PredecessorMissing,
    /// Redis did not take it.
    Rejected(PublishRejection),
}

/// Why Redis did not take an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishRejection {
    /// How far it reaches.
    pub scope: RejectionScope,
    /// Redis's error, or the client library's. It holds no content.
    pub error: String,
    /// Whether Redis answers at all.
    pub is_answered: bool,
}

/// How far a refusal reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectionScope {
    /// The conversation: its event log is not what it should be.
    Conversation,
    /// The node that holds the conversation: it is full, dead, or no master.
    Node,
}

/// Codes of errors that say nothing of the conversation.
const NODE_ERRORS: &[&str] = &[
    "OOM",
    "MISCONF",
    "READONLY",
    "LOADING",
    "BUSY",
    "UNKILLABLE",
    "CLUSTERDOWN",
    "MASTERDOWN",
    "NOREPLICAS",
    "NOAUTH",
    "NOPERM",
    "TRYAGAIN",
    "MOVED",
    "ASK",
];

impl PublishRejection {
    /// An error that Redis gave for one event.
    pub(super) fn from_redis_error(error: &str) -> Self {
        let error = strip_script_position(error);
        let code = error.split_whitespace().next().unwrap_or_default();
        let scope = if NODE_ERRORS.contains(&code) { RejectionScope::Node } else { RejectionScope::Conversation };
        Self { scope, error: error.to_owned(), is_answered: true }
    }

    /// Whether the conversation's log is a key of another type.
    #[must_use]
    pub fn is_wrong_type(&self) -> bool {
        self.error.starts_with("WRONGTYPE")
    }
}

/// Before Redis 7 what it refuses within a script says where in the script: `@user_script: 47: -OOM command not allowed …`.
fn strip_script_position(error: &str) -> &str {
    let index = error.strip_prefix("@user_script").and_then(|rest| rest.split_once(": -"));
    index.map_or(error, |(_, answer)| answer)
}

impl From<&Error> for PublishRejection {
    fn from(error: &Error) -> Self {
        match is_answer(error) {
            true => Self::from_redis_error(error.details()),
            false => Self { scope: RejectionScope::Node, error: error.to_string(), is_answered: false },
        }
    }
}

impl PublishOutcome {
    /// As the publishing script answers for an event.
    pub(super) fn from_script_reply(cursor: Option<&str>) -> Self {
        match cursor {
            None => Self::PredecessorMissing,
            Some(cursor) => match cursor.strip_prefix('!') {
                Some(error) => Self::Rejected(PublishRejection::from_redis_error(error)),
                None => Self::Published,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fred::error::ErrorKind;

    #[test]
    fn an_answer_of_the_script_is_a_cursor_nothing_too_early_or_a_refusal() {
        assert_eq!(PublishOutcome::from_script_reply(Some("17-0")), PublishOutcome::Published);
        assert_eq!(PublishOutcome::from_script_reply(Some("")), PublishOutcome::Published);
        assert_eq!(PublishOutcome::from_script_reply(None), PublishOutcome::PredecessorMissing);
        let refused = |text: &str| match PublishOutcome::from_script_reply(Some(text)) {
            PublishOutcome::Rejected(rejection) => (rejection.scope, rejection.is_wrong_type()),
            other => panic!("{other:?}"),
        };
        let wrong_type = "!WRONGTYPE Operation against a key holding the wrong kind of value";
        assert_eq!(refused(wrong_type), (RejectionScope::Conversation, true));
        assert_eq!(
            refused("!ERR The stream has exhausted the last possible ID"),
            (RejectionScope::Conversation, false)
        );
        assert_eq!(
            refused("!@user_script: 47: -OOM command not allowed when used memory > 'maxmemory'."),
            (RejectionScope::Node, false)
        );
        assert_eq!(refused("!OOM command not allowed when used memory > 'maxmemory'."), (RejectionScope::Node, false));
    }

    #[test]
    fn what_gets_no_answer_concerns_the_node() {
        for kind in [ErrorKind::IO, ErrorKind::Timeout, ErrorKind::Canceled, ErrorKind::Routing] {
            assert_eq!(PublishRejection::from(&Error::new(kind, "gone")).scope, RejectionScope::Node);
        }
        assert_eq!(
            PublishRejection::from(&Error::new(ErrorKind::Cluster, "CLUSTERDOWN Hash slot not served")).scope,
            RejectionScope::Node
        );
        assert_eq!(
            PublishRejection::from(&Error::new(ErrorKind::InvalidArgument, "WRONGTYPE x")).scope,
            RejectionScope::Conversation
        );
    }
}
