//! The outcome of publishing an event, and the scope of a rejection: one conversation, or one node.

use fred::error::Error;
use shared::kit::redis::is_redis_reply;

/// The outcome of publishing an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishOutcome {
    /// Redis has it, or it needs no publication.
    Published,
    /// Its predecessor is not published yet. It can be retried.
    PredecessorMissing,
    /// Redis rejected it.
    Rejected(PublishRejection),
}

/// Why Redis rejected an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishRejection {
    /// The scope of the rejection.
    pub scope: RejectionScope,
    /// The error of Redis or of the client library, without content.
    pub error: String,
    /// Whether Redis answered.
    pub is_answered: bool,
}

/// The scope of a rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectionScope {
    /// The conversation: its event log is invalid.
    Conversation,
    /// The node of the conversation: full, dead, or no master.
    Node,
}

/// Error codes that concern the node, not the conversation.
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
    /// Classifies an error that Redis returned for one event.
    pub(super) fn from_redis_error(error: &str) -> Self {
        let error = strip_script_position(error);
        let code = error.split_whitespace().next().unwrap_or_default();
        let scope = if NODE_ERRORS.contains(&code) { RejectionScope::Node } else { RejectionScope::Conversation };
        Self { scope, error: error.to_owned(), is_answered: true }
    }

    /// Whether the event log is a key of another type.
    #[must_use]
    pub fn is_wrong_type(&self) -> bool {
        self.error.starts_with("WRONGTYPE")
    }
}

/// Before Redis 7, errors within a script begin with its position: `@user_script: 47: -OOM command not allowed …`.
fn strip_script_position(error: &str) -> &str {
    let index = error.strip_prefix("@user_script").and_then(|rest| rest.split_once(": -"));
    index.map_or(error, |(_, answer)| answer)
}

impl From<&Error> for PublishRejection {
    fn from(error: &Error) -> Self {
        match is_redis_reply(error) {
            true => Self::from_redis_error(error.details()),
            false => Self { scope: RejectionScope::Node, error: error.to_string(), is_answered: false },
        }
    }
}

impl PublishOutcome {
    /// Parses the reply of the publish script for one event.
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
    fn script_reply_maps_to_publish_outcome() {
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
    fn unanswered_command_rejects_node() {
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
