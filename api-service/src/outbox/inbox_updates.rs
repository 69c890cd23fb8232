//! Publishes the inbox rows of conversations, after the events that changed them.
//!
//! Runs beside the fast path, which never waits for it. After a failure the outbox rows stay and are published again.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use shared::contract::ids::ConversationId;
use shared::contract::participant::Conversation;
use shared::contract::redis::keys::Channel;
use tokio::sync::mpsc;

use super::confirmation::PublishedBatch;
use super::{OutboxRelay, RelayError};
use crate::model::inbox::{ConversationSnapshot, InboxUpdate};
use crate::outbox::broker::InboxRow;
use crate::store::StoreError;

/// Batches that may wait. The sweep publishes the rows of others.
pub(super) const QUEUE_CAPACITY: usize = 256;

/// The inbox updates of a published batch.
pub(super) struct InboxBatch {
    pub(super) updates: Vec<InboxUpdate>,
    /// Confirmed once the inbox rows are published.
    pub(super) published: PublishedBatch,
}

/// Publishes until the queue is closed. Updates that wait are merged, so each conversation is published once.
pub(super) async fn run(outbox: Arc<OutboxRelay>, mut queue: mpsc::Receiver<InboxBatch>) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, QUEUE_CAPACITY).await > 0 {
        let (mut updates, mut published) = (Vec::new(), Vec::new());
        for update in batch.drain(..) {
            updates.extend(update.updates);
            published.push(update.published);
        }
        match outbox.publish_inboxes(updates).await {
            Ok(()) => published.into_iter().for_each(|published| outbox.confirm_later(published)),
            Err(error) => tracing::warn!(%error, "inbox rows not published, outbox rows stay"),
        }
    }
}

impl OutboxRelay {
    /// Publishes inbox rows to channels that have subscribers.
    pub(super) async fn publish_inboxes(&self, updates: Vec<InboxUpdate>) -> Result<(), RelayError> {
        let updates = latest_per_conversation(updates);
        let channels: HashSet<Channel> =
            updates.values().flat_map(|updates| inbox_channels(updates.conversation())).collect();
        let subscribed = self.broker.channels_with_subscribers(channels.into_iter().collect()).await?;
        if subscribed.is_empty() {
            return Ok(());
        }
        let (mut snapshots, mut unknown) = (Vec::new(), Vec::new());
        for updates in updates.into_values() {
            if inbox_channels(updates.conversation()).iter().any(|channel| subscribed.contains(channel)) {
                match updates {
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
    for updates in updates {
        match latest.entry(updates.conversation().id()) {
            Entry::Vacant(entry) => drop(entry.insert(updates)),
            Entry::Occupied(entry) => {
                let (id, known) = entry.remove_entry();
                latest.insert(id, known.merge(updates));
            }
        }
    }
    latest
}

fn inbox_rows(snapshot: &ConversationSnapshot) -> Result<Vec<InboxRow>, StoreError> {
    let conversation = snapshot.conversation();
    let row = |row: crate::model::inbox::InboxRow| {
        Ok(InboxRow {
            channel: Channel::inbox(conversation.location(), &row.viewer),
            conversation: conversation.id(),
            version: row.version(),
            json: serde_json::to_string(&row).map_err(StoreError::internal)?,
        })
    };
    snapshot.rows().map(row).collect()
}
