//! Asks the API service whether a conversation has a message.
//!
//! A gateway has no database, and a client may open a socket for any pair of participants. Without an answer, they do
//! not see each other's presence.

use std::collections::HashSet;

use metrics::counter;
use shared::contract::presence::ConversationCheck;
use shared::contract::redis::{keys, scripts};

use crate::streams::{StreamEntry, StreamProducer};

/// Checks that may wait: about 10 MB.
const MAX_QUEUED: usize = 50_000;

/// Sends checks.
pub(crate) type ConversationChecks = StreamProducer<ConversationCheck>;

impl StreamEntry for ConversationCheck {
    const TASK: &'static str = "conversation checks";
    const STREAM: &'static str = keys::CONVERSATION_CHECK_STREAM;
    const SCRIPT: &'static str = scripts::STREAM_ADD;
    const MAX_STREAM_LENGTH: usize = keys::CONVERSATION_CHECK_STREAM_CAPACITY;
    const MAX_QUEUED_WEIGHT: usize = MAX_QUEUED;
    const ENQUEUED_METRIC: &'static str = "ehr_chat_gateway_conversation_checks_total";
    const RETRIES_METRIC: &'static str = "ehr_chat_gateway_conversation_checks_retries_total";
    /// An unanswered check is repeated.
    const MAX_UNCONFIRMED_BYTES: usize = 0;
    const REPEATED_METRIC: &'static str = "";
    const UNREPEATABLE_METRIC: &'static str = "";

    fn weight(&self) -> usize {
        1
    }

    fn count_overflow(weight: usize) {
        counter!("ehr_chat_gateway_conversation_checks_dropped_total").increment(weight as u64);
    }

    fn coalesce(mut checks: Vec<Self>, _lost: usize) -> Vec<Self> {
        let mut conversations = HashSet::with_capacity(checks.len());
        checks.retain(|check| conversations.insert(check.conversation));
        checks
    }

    fn encode(&self) -> Option<String> {
        Self::encode(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn duplicate_checks_are_merged() {
        let check = |n| ConversationCheck { location: "loc1".parse().unwrap(), conversation: Uuid::from_u128(n) };
        let merged = ConversationCheck::coalesce(vec![check(1), check(2), check(1)], 0);
        assert_eq!(merged, [check(1), check(2)]);
    }
}
