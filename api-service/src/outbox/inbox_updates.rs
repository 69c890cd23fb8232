//! Tells inboxes how conversations stand, behind the events that have changed them.
//!
//! Beside the fast path, which never waits for it. What is not told stays in the outbox, which is published again.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use shared::channel::Channel;
use shared::ids::ConversationId;
use shared::participant::Conversation;
use tokio::sync::mpsc;

use super::confirmation::PublishedBatch;
use super::{OutboxRelay, RelayError};
use crate::model::inbox::{ConversationSnapshot, InboxUpdate};
use crate::outbox::broker::InboxRow;
use crate::store::StoreError;

/// Batches that may wait to be told. What finds no room is told when the outbox is swept.
pub(super) const QUEUE_CAPACITY: usize = 256;

/// What a batch has changed.
pub(super) struct InboxBatch {
    pub(super) updates: Vec<InboxUpdate>,
    /// To be settled once it is told.
    pub(super) published: PublishedBatch,
}

/// Tells until nobody publishes any more. What waits is told together, of each conversation how it stands at last.
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
            Err(error) => tracing::warn!(%error, "inboxes are not told yet; the outbox holds what they must know"),
        }
    }
}

impl OutboxRelay {
    /// Publishes the rows of conversations to whoever listens.
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
        // Read when the change is committed, so that it is at least as new.
        if !unknown.is_empty() {
            snapshots.extend(self.store.snapshots(&unknown).await?);
        }
        let mut rows = Vec::new();
        for snapshot in &snapshots {
            rows.extend(inbox_rows(snapshot)?.into_iter().filter(|row| subscribed.contains(&row.channel)));
        }
        let count = self.broker.publish_rows(&rows).await?;
        metrics::counter!("inbox_rows_published_total").increment(count);
        Ok(())
    }
}

fn inbox_channels(conversation: &Conversation) -> [Channel; 2] {
    [conversation.first(), conversation.second()].map(|whose| Channel::inbox(conversation.location(), whose))
}

/// What is known last of each conversation.
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
