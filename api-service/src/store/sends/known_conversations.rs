//! Which conversations have a row, as far as this process knows.
//!
//! A batch with another conversation inserts the row first, in the same round trip. Without this knowledge the batch would have to
//! fail to find out.

use quick_cache::sync::Cache;
use shared::contract::ids::ConversationId;
use shared::contract::participant::Conversation;

use crate::model::send::SendRequest;

/// Conversations that are remembered, of about 50 bytes each.
const CAPACITY: usize = 65_536;

pub(in crate::store) struct KnownConversations(Cache<ConversationId, ()>);

impl Default for KnownConversations {
    fn default() -> Self {
        Self(Cache::new(CAPACITY))
    }
}

impl KnownConversations {
    /// The conversations of a batch that are not known, each once.
    pub(super) fn unknown<'a>(&self, batch: &'a [SendRequest]) -> Vec<&'a Conversation> {
        let conversations = batch.iter().map(|request| &request.message.conversation);
        let mut unknown: Vec<_> = conversations.filter(|one| self.0.get(&one.id()).is_none()).collect();
        unknown.sort_unstable_by_key(|one| one.id());
        unknown.dedup_by_key(|one| one.id());
        unknown
    }

    /// Remembers conversations whose rows were seen.
    pub(super) fn add(&self, seen: impl IntoIterator<Item = ConversationId>) {
        seen.into_iter().for_each(|id| self.0.insert(id, ()));
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::tests::new;
    use super::*;

    #[test]
    fn unknown_conversations_come_once_in_order_of_ids() {
        let batch: Vec<_> =
            ["a", "b", "a", "c", "b"].map(|to| new("user:d", &format!("contact:{to}"), "1", None)).into();
        let known = KnownConversations::default();
        let ids = || known.unknown(&batch).iter().map(|one| one.id()).collect::<Vec<_>>();
        let all = ids();
        assert!(all.len() == 3 && all.is_sorted(), "{all:?}");
        known.add([all[1]]);
        assert_eq!(ids(), [all[0], all[2]]);
        known.add(all);
        assert!(ids().is_empty());
    }
}
