//! What became of an event that was to be published, and how far a refusal reaches: one conversation, or one node of Redis.

use fred::error::Error;
use shared::redis::is_answer;

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Redis has it, or nobody needs it.
    Published,
    /// It came before another instance has published the message that it follows. It can be tried again.
    TooEarly,
    /// Redis did not take it.
    Refused(Refusal),
}

/// Why Redis did not take an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// How far it reaches.
    pub reach: Reach,
    /// Redis's error, or the client library's. It holds no content.
    pub error: String,
    /// Whether Redis answers at all.
    pub is_answered: bool,
}

/// How far a refusal reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The conversation: its event log is not what it should be.
    Conversation,
    /// The node that holds the conversation: it is full, dead, or no master.
    Node,
}

/// Codes of errors that say nothing of the conversation.
const OF_NODE: &[&str] = &[
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

impl Refusal {
    /// An error that Redis gave for one event.
    pub(super) fn of_event(error: &str) -> Self {
        let error = without_place(error);
        let code = error.split_whitespace().next().unwrap_or_default();
        let reach = if OF_NODE.contains(&code) { Reach::Node } else { Reach::Conversation };
        Self { reach, error: error.to_owned(), is_answered: true }
    }

    /// Whether the conversation's log is a key of another type.
    #[must_use]
    pub fn is_wrong_type(&self) -> bool {
        self.error.starts_with("WRONGTYPE")
    }
}

/// Before Redis 7 what it refuses within a script says where in the script: `@user_script: 47: -OOM command not allowed …`.
fn without_place(error: &str) -> &str {
    let place = error.strip_prefix("@user_script").and_then(|rest| rest.split_once(": -"));
    place.map_or(error, |(_, answer)| answer)
}

impl From<&Error> for Refusal {
    fn from(error: &Error) -> Self {
        match is_answer(error) {
            true => Self::of_event(error.details()),
            false => Self { reach: Reach::Node, error: error.to_string(), is_answered: false },
        }
    }
}

impl Outcome {
    /// As the publishing script answers for an event.
    pub(super) fn read(cursor: Option<&str>) -> Self {
        match cursor {
            None => Self::TooEarly,
            Some(cursor) => match cursor.strip_prefix('!') {
                Some(error) => Self::Refused(Refusal::of_event(error)),
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
        assert_eq!(Outcome::read(Some("17-0")), Outcome::Published);
        assert_eq!(Outcome::read(Some("")), Outcome::Published);
        assert_eq!(Outcome::read(None), Outcome::TooEarly);
        let refused = |text: &str| match Outcome::read(Some(text)) {
            Outcome::Refused(refusal) => (refusal.reach, refusal.is_wrong_type()),
            other => panic!("{other:?}"),
        };
        let wrong_type = "!WRONGTYPE Operation against a key holding the wrong kind of value";
        assert_eq!(refused(wrong_type), (Reach::Conversation, true));
        assert_eq!(refused("!ERR The stream has exhausted the last possible ID"), (Reach::Conversation, false));
        assert_eq!(
            refused("!@user_script: 47: -OOM command not allowed when used memory > 'maxmemory'."),
            (Reach::Node, false)
        );
        assert_eq!(refused("!OOM command not allowed when used memory > 'maxmemory'."), (Reach::Node, false));
    }

    #[test]
    fn what_gets_no_answer_concerns_the_node() {
        for kind in [ErrorKind::IO, ErrorKind::Timeout, ErrorKind::Canceled, ErrorKind::Routing] {
            assert_eq!(Refusal::from(&Error::new(kind, "gone")).reach, Reach::Node);
        }
        assert_eq!(
            Refusal::from(&Error::new(ErrorKind::Cluster, "CLUSTERDOWN Hash slot not served")).reach,
            Reach::Node
        );
        assert_eq!(Refusal::from(&Error::new(ErrorKind::InvalidArgument, "WRONGTYPE x")).reach, Reach::Conversation);
    }
}
