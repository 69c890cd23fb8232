//! What the sends of a batch turn out to be, and their places in their conversations. Free of SQL.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::Arc;

use shared::ids::{ConversationId, LocationId};
use shared::participant::Participant;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::model::message::{Message, NewMessage};
use crate::store::StoreError;
use crate::store::conversations::{Bump, Counted};

/// What a send turns out to be.
#[derive(Debug)]
pub(super) enum Verdict {
    New,
    RepeatsStored(Message),
    /// The same as the send at this place of the batch.
    RepeatsEarlier(usize),
    IdReused,
}

impl Verdict {
    pub(super) fn is_new(&self) -> bool {
        matches!(self, Self::New)
    }
}

pub(super) struct Judged {
    pub(super) verdicts: Vec<Verdict>,
    /// What the new ones add to their conversations.
    pub(super) bumps: Vec<Bump>,
}

/// Who sent under which id: what a repeat is recognised by.
pub(super) type RepeatKey = (Uuid, LocationId, Participant);

pub(super) fn repeat_key(new: &NewMessage) -> Option<RepeatKey> {
    Some((new.client_message_id?, new.conversation.location().clone(), new.sender.clone()))
}

pub(super) fn is_stored(new: &NewMessage, stored: &HashMap<RepeatKey, Message>) -> bool {
    !stored.is_empty() && repeat_key(new).is_some_and(|key| stored.contains_key(&key))
}

/// Tells repeats from new messages, as far as the stored ones are known.
pub(super) fn judge(batch: &[Arc<NewMessage>], stored: &HashMap<RepeatKey, Message>) -> Judged {
    let mut earlier: HashMap<RepeatKey, usize> = HashMap::new();
    let mut bumps: HashMap<ConversationId, Bump> = HashMap::new();
    let mut verdicts = Vec::with_capacity(batch.len());
    for (place, new) in batch.iter().enumerate() {
        if let Some(key) = repeat_key(new) {
            if let Some(message) = stored.get(&key) {
                let same = *message.new == **new;
                verdicts.push(if same { Verdict::RepeatsStored(message.clone()) } else { Verdict::IdReused });
                continue;
            }
            match earlier.entry(key) {
                Slot::Occupied(first) => {
                    let same = batch.get(*first.get()) == Some(new);
                    verdicts.push(if same { Verdict::RepeatsEarlier(*first.get()) } else { Verdict::IdReused });
                    continue;
                }
                Slot::Vacant(slot) => slot.insert(place),
            };
        }
        let id = new.conversation.id();
        let bump = bumps.entry(id).or_insert(Bump { id, sent: 0, unread: [0, 0] });
        bump.sent += 1;
        bump.unread[usize::from(new.receiver != *new.conversation.first())] += 1;
        verdicts.push(Verdict::New);
    }
    Judged { verdicts, bumps: bumps.into_values().collect() }
}

/// Gives the new messages of a batch their places, in its order, relative to where their conversations will stand with
/// them: the last one has 0.
pub(super) fn place(batch: &[Arc<NewMessage>], judged: &Judged) -> Result<Vec<Message>, StoreError> {
    let mut seqs: HashMap<ConversationId, i64> =
        judged.bumps.iter().map(|bump| (bump.id, -i64::from(bump.sent))).collect();
    let new = judged.verdicts.iter().zip(batch).filter(|(verdict, _)| verdict.is_new());
    new.map(|(_, new)| {
        let seq = seqs.get_mut(&new.conversation.id()).ok_or_else(|| StoreError::internal("a send is not counted"))?;
        *seq += 1;
        Ok(Message {
            id: Uuid::now_v7(),
            new: new.clone(),
            seq: *seq,
            sent_at: OffsetDateTime::UNIX_EPOCH,
            delivered_at: None,
            read_at: None,
        })
    })
    .collect()
}

/// Gives placed messages the places and times that they have in their conversations, as counted.
pub(super) fn settle(new: &mut [Message], counted: &HashMap<ConversationId, Counted>) -> Result<(), StoreError> {
    for message in new {
        let counted = counted
            .get(&message.new.conversation.id())
            .ok_or_else(|| StoreError::internal("a conversation is not locked"))?;
        message.seq += counted.last_seq;
        message.sent_at = counted.last_activity_at;
    }
    Ok(())
}
