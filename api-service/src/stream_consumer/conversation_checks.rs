//! Answers gateways that ask whether two people share a conversation, before they tell the one of the other's coming and
//! going. There is no answer for those who do not.

use shared::channel::QUESTIONS;
use shared::presence::ConversationCheck;

use crate::presence_reader::PresenceReader;
use crate::store::{Store, StoreError};
use crate::stream_consumer::StreamHandler;

/// Answers.
pub struct ConversationCheckHandler {
    /// Knows which conversations there are.
    pub store: Store,
    /// The way to the gateways.
    pub presence: PresenceReader,
}

impl StreamHandler for ConversationCheckHandler {
    const STREAM: &'static str = QUESTIONS;
    const HANDLED_METRIC: &'static str = "presence_questions_total";
    /// Somebody does not hear of somebody, until it changes the next time.
    const DROPPED_METRIC: &'static str = "presence_questions_dropped_total";
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
            // Not worth to be tried again: what is not answered is asked again.
            tracing::debug!(%error, "gateways have not heard who may know of whom");
        }
        Ok(())
    }
}
