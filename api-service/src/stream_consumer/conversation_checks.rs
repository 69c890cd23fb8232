//! Answers gateways that ask whether two participants share a conversation. Gateways forward presence only then. A negative
//! result gets no answer.

use shared::contract::presence::ConversationCheck;
use shared::contract::redis::keys::CONVERSATION_CHECK_STREAM;

use crate::presence_reader::PresenceReader;
use crate::store::{Store, StoreError};
use crate::stream_consumer::handler::StreamHandler;

/// Handles conversation checks.
pub struct ConversationCheckHandler {
    /// Reads which conversations have messages.
    pub store: Store,
    /// Publishes the answers.
    pub presence: PresenceReader,
}

impl StreamHandler for ConversationCheckHandler {
    const STREAM: &'static str = CONVERSATION_CHECK_STREAM;
    const HANDLED_METRIC: &'static str = "ehr_chat_conversation_checks_total";
    /// A dropped check delays presence until its next change.
    const DROPPED_METRIC: &'static str = "ehr_chat_conversation_checks_dropped_total";
    const MAX_ATTEMPTS: Option<usize> = Some(4);
    type Entry = ConversationCheck;

    fn decode(text: &str) -> Option<ConversationCheck> {
        ConversationCheck::decode(text)
    }

    async fn handle(&self, questions: &[ConversationCheck]) -> Result<(), StoreError> {
        let asked: Vec<_> = questions.iter().map(|question| (question.conversation, &question.location)).collect();
        let with_messages = self.store.with_messages(&asked).await?;
        let shared: Vec<_> =
            questions.iter().filter(|question| with_messages.contains(&question.conversation)).collect();
        if let Err(error) = self.presence.announce_shared(&shared).await {
            // Not retried: the gateway asks again.
            tracing::debug!(%error, "conversation checks not answered");
        }
        Ok(())
    }
}
