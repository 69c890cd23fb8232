//! The inbox rows that changed conversations publish, after the events that changed them. A channel without subscribers gets none.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use shared::contract::ids::ConversationId;
use shared::contract::participant::Conversation;
use shared::contract::redis::keys::Channel;

use crate::model::inbox::{ConversationSnapshot, InboxUpdate};
use crate::outbox::broker::{Broker, EncodedInboxRow};
use crate::store::{Store, StoreError};

/// Why inbox rows were not published.
#[derive(Debug, thiserror::Error)]
pub(super) enum InboxUpdateError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("Redis did not take the inbox rows: {0}")]
    Redis(#[from] fred::error::Error),
}

/// Publishes inbox rows. Clones share the connections.
#[derive(Clone)]
pub(super) struct InboxUpdates {
    pub(super) store: Store,
    pub(super) broker: Arc<Broker>,
}

impl InboxUpdates {
    /// Publishes the rows of these updates, once per conversation.
    pub(super) async fn publish(&self, updates: Vec<InboxUpdate>) -> Result<(), InboxUpdateError> {
        if updates.is_empty() {
            return Ok(());
        }
        let updates = latest_per_conversation(updates);
        let channels: HashSet<Channel> =
            updates.values().flat_map(|update| inbox_channels(update.conversation())).collect();
        let subscribed = self.broker.channels_with_subscribers(channels.into_iter().collect()).await?;
        if subscribed.is_empty() {
            return Ok(());
        }
        let (mut snapshots, mut unknown) = (Vec::new(), Vec::new());
        for update in updates.into_values() {
            if inbox_channels(update.conversation()).iter().any(|channel| subscribed.contains(channel)) {
                match update {
                    InboxUpdate::Snapshot(known) => snapshots.push(*known),
                    InboxUpdate::Stale(conversation) => unknown.push(conversation),
                }
            }
        }
        // Read after the commit, so at least as recent as the change.
        if !unknown.is_empty() {
            snapshots.extend(self.store.snapshots(&unknown).await?);
        }
        let mut rows = Vec::new();
        for snapshot in &snapshots {
            rows.extend(inbox_rows(snapshot)?.into_iter().filter(|row| subscribed.contains(&row.channel)));
        }
        let count = self.broker.publish_rows(&rows).await?;
        metrics::counter!("ehr_chat_inbox_rows_published_total").increment(count);
        Ok(())
    }
}

fn inbox_channels(conversation: &Conversation) -> [Channel; 2] {
    [conversation.first(), conversation.second()].map(|whose| Channel::inbox(conversation.location(), whose))
}

/// The latest update of each conversation.
fn latest_per_conversation(updates: Vec<InboxUpdate>) -> HashMap<ConversationId, InboxUpdate> {
    let mut latest: HashMap<ConversationId, InboxUpdate> = HashMap::with_capacity(updates.len());
    for update in updates {
        match latest.entry(update.conversation().id()) {
            Entry::Vacant(entry) => drop(entry.insert(update)),
            Entry::Occupied(entry) => {
                let (id, known) = entry.remove_entry();
                latest.insert(id, known.merge(update));
            }
        }
    }
    latest
}

fn inbox_rows(snapshot: &ConversationSnapshot) -> Result<Vec<EncodedInboxRow>, StoreError> {
    let conversation = snapshot.conversation();
    let row = |row: crate::model::inbox::InboxRow| {
        Ok(EncodedInboxRow {
            channel: Channel::inbox(conversation.location(), &row.viewer),
            conversation: conversation.id(),
            version: row.version(),
            json: serde_json::to_string(&row).map_err(StoreError::internal)?,
        })
    };
    snapshot.rows().map(row).collect()
}
