//! The transaction of a batch of sends: conversations, messages and outbox together, or nothing.
//!
//! Two round trips whatever the size: begin, lock and look for repeats; then write everything and commit.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::Arc;

use deadpool_postgres::Object;
use shared::channel::Channel;
use shared::ids::{ConversationId, LocationId};
use shared::participant::Participant;
use time::OffsetDateTime;
use tokio::try_join;
use tokio_postgres::Statement;
use uuid::Uuid;

use super::conversations::{self, Bump, Locked};
use super::outbox::{self, OutboxEntry, OutboxEvent};
use super::{Store, StoreError, messages};
use crate::domain::message::{Message, NewMessage, now};

/// What became of one send.
#[derive(Debug, Clone)]
pub enum SendOutcome {
    /// It is a new message, as clients get it.
    Sent(String),
    /// It was sent before; the message as it stands now, as clients get it.
    Repeated(String),
    /// Its `client_message_id` stands for another message.
    IdReused,
}

/// What became of a batch.
#[derive(Debug, Clone)]
pub struct Done {
    /// Of each send, in order.
    pub outcomes: Vec<SendOutcome>,
    /// The events of what is new: to be published. Its row in the outbox sees to it when nobody does.
    pub entry: Option<OutboxEntry>,
}

impl Store {
    /// Writes a batch of sends in one transaction and says what became of each, in order.
    ///
    /// # Errors
    /// [`StoreError`] for the whole batch. Nothing was written, unless the connection broke during the commit:
    /// then nobody knows, and only a repeat with the same `client_message_id` can tell.
    pub async fn send(&self, batch: &[Arc<NewMessage>]) -> Result<Done, StoreError> {
        self.with(async |client| {
            let statements = Statements::prepare(client).await?;
            let done = send(client, &statements, batch).await;
            if done.is_err() {
                // On a broken connection this fails too, and the pool drops it.
                let _ = client.batch_execute("rollback").await;
            }
            done
        })
        .await
    }
}

/// Prepared before the transaction: within it, everything must be on its way in one go and in order.
struct Statements {
    lock: Statement,
    repeats: Statement,
    insert: Statement,
    bump: Statement,
    remember: Statement,
}

impl Statements {
    async fn prepare(client: &Object) -> Result<Self, StoreError> {
        let (lock, repeats, insert, bump, remember) = try_join!(
            client.prepare_cached(conversations::LOCK),
            client.prepare_cached(messages::BY_CLIENT_ID),
            client.prepare_cached(messages::INSERT),
            client.prepare_cached(conversations::BUMP),
            client.prepare_cached(outbox::INSERT_MESSAGES),
        )?;
        Ok(Self { lock, repeats, insert, bump, remember })
    }
}

async fn send(client: &Object, statements: &Statements, batch: &[Arc<NewMessage>]) -> Result<Done, StoreError> {
    let mut ids: Vec<ConversationId> = batch.iter().map(|new| new.conversation.id()).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut begun = Begun::begin(client, statements, &ids, batch).await?;
    if begun.locked.len() < ids.len() {
        // Somebody writes in a conversation for the first time.
        client.batch_execute("rollback").await?;
        let unopened = |new: &&Arc<NewMessage>| !begun.locked.contains_key(&new.conversation.id());
        let new: Vec<_> = batch.iter().filter(unopened).map(|new| &new.conversation).collect();
        conversations::open(client, &new).await?;
        begun = Begun::begin(client, statements, &ids, batch).await?;
    }
    let Judged { verdicts, bumps } = judge(batch, begun, now())?;
    let new: Vec<&Message> = verdicts.iter().filter_map(Verdict::new_message).collect();
    let outbox_id = match new.is_empty() {
        // Repeats only: there is nothing to keep, and the locks can go.
        true => {
            client.batch_execute("commit").await?;
            None
        }
        false => Some(write(client, statements, &new, &bumps).await?),
    };
    done(&verdicts, outbox_id)
}

/// Where things stand once the conversations are locked.
struct Begun {
    locked: HashMap<ConversationId, Locked>,
    /// Messages that were sent under one of the batch's client ids.
    stored: Vec<Message>,
}

impl Begun {
    /// Begins the transaction, locks the conversations and finds the repeats, in one round trip. The statements run
    /// in order, so repeats are looked for behind the locks: of two that race, the second sees the first.
    async fn begin(
        client: &Object,
        statements: &Statements,
        ids: &[ConversationId],
        batch: &[Arc<NewMessage>],
    ) -> Result<Self, StoreError> {
        let client_ids: Vec<Uuid> = batch.iter().filter_map(|new| new.client_message_id).collect();
        let repeats = async {
            match client_ids.is_empty() {
                true => Ok(Vec::new()),
                false => client.query(&statements.repeats, &[&client_ids]).await,
            }
        };
        let lock = async { client.query(&statements.lock, &[&ids]).await };
        let ((), locked, stored) = try_join!(biased; client.batch_execute("begin"), lock, repeats)?;
        let locked = locked
            .iter()
            .map(|row| Ok((row.try_get(0)?, Locked { last_seq: row.try_get(1)?, last_activity_at: row.try_get(2)? })))
            .collect::<Result<_, StoreError>>()?;
        Ok(Self { locked, stored: stored.iter().map(messages::message).collect::<Result<_, _>>()? })
    }
}

/// Writes what is new and commits, in one round trip. A commit behind a failed write is a rollback, and the failed
/// write tells. Returns the row of the outbox.
async fn write(client: &Object, statements: &Statements, new: &[&Message], bumps: &[Bump]) -> Result<i64, StoreError> {
    let ids: Vec<_> = new.iter().map(|message| message.id).collect();
    let ((), (), row, ()) = try_join!(
        biased;
        messages::insert(client, &statements.insert, new),
        conversations::bump(client, &statements.bump, bumps),
        async { Ok(client.query_one(&statements.remember, &[&ids]).await?) },
        async { Ok(client.batch_execute("commit").await?) },
    )?;
    Ok(row.try_get(0)?)
}

/// What a send turns out to be.
#[derive(Debug)]
enum Verdict {
    New(Message),
    RepeatsStored(Message),
    /// The same as the send at this place of the batch.
    RepeatsEarlier(usize),
    IdReused,
}

impl Verdict {
    fn new_message(&self) -> Option<&Message> {
        if let Self::New(message) = self { Some(message) } else { None }
    }
}

struct Judged {
    verdicts: Vec<Verdict>,
    bumps: Vec<Bump>,
}

/// Who sent under which id: what a repeat is recognised by.
type RepeatKey = (Uuid, LocationId, Participant);

fn repeat_key(new: &NewMessage) -> Option<RepeatKey> {
    Some((new.client_message_id?, new.conversation.location().clone(), new.sender.clone()))
}

/// Tells repeats from new messages and gives the new ones their place. Free of SQL.
fn judge(batch: &[Arc<NewMessage>], begun: Begun, now: OffsetDateTime) -> Result<Judged, StoreError> {
    let Begun { locked: mut standing, stored } = begun;
    let stored: HashMap<RepeatKey, Message> =
        stored.into_iter().filter_map(|message| Some((repeat_key(&message.new)?, message))).collect();
    let mut earlier: HashMap<RepeatKey, usize> = HashMap::new();
    let mut bumps: HashMap<ConversationId, Bump> = HashMap::new();
    let mut verdicts = Vec::with_capacity(batch.len());
    for (place, new) in batch.iter().enumerate() {
        let key = repeat_key(new);
        if let Some(key) = key {
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
        let conversation = standing.get_mut(&id).ok_or_else(|| StoreError::internal("a conversation is not locked"))?;
        conversation.last_seq += 1;
        // Clocks differ between instances and jump; within a conversation time does not run backwards.
        conversation.last_activity_at = conversation.last_activity_at.max(now);
        let bump = bumps.entry(id).or_insert(Bump { id, at: *conversation, unread: [0, 0] });
        bump.at = *conversation;
        bump.unread[usize::from(new.receiver != *new.conversation.first())] += 1;
        verdicts.push(Verdict::New(Message {
            id: Uuid::now_v7(),
            new: new.clone(),
            seq: conversation.last_seq,
            sent_at: conversation.last_activity_at,
            delivered_at: None,
            read_at: None,
        }));
    }
    Ok(Judged { verdicts, bumps: bumps.into_values().collect() })
}

fn done(verdicts: &[Verdict], outbox_id: Option<i64>) -> Result<Done, StoreError> {
    let mut events = Vec::with_capacity(verdicts.len());
    let mut outcomes: Vec<SendOutcome> = Vec::with_capacity(verdicts.len());
    for verdict in verdicts {
        outcomes.push(match verdict {
            Verdict::New(message) => {
                let json = message.to_json().map_err(StoreError::internal)?;
                let channel = Channel::from(&message.new.conversation);
                events.push(OutboxEvent { channel, draft: message.event(&json) });
                SendOutcome::Sent(json)
            }
            Verdict::RepeatsStored(message) => SendOutcome::Repeated(message.to_json().map_err(StoreError::internal)?),
            Verdict::RepeatsEarlier(place) => match outcomes.get(*place) {
                Some(SendOutcome::Sent(first)) => SendOutcome::Repeated(first.clone()),
                _ => return Err(StoreError::internal("a repeat of what was not sent")),
            },
            Verdict::IdReused => SendOutcome::IdReused,
        });
    }
    Ok(Done { outcomes, entry: outbox_id.map(|id| OutboxEntry { id, events }) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::message::Content;
    use shared::participant::Conversation;

    fn new(from: &str, to: &str, content: &str, client_id: Option<u128>) -> Arc<NewMessage> {
        let (sender, receiver): (Participant, Participant) = (from.parse().unwrap(), to.parse().unwrap());
        Arc::new(NewMessage {
            conversation: Conversation::new("loc1".parse().unwrap(), sender.clone(), receiver.clone()).unwrap(),
            sender,
            receiver,
            content: Content::new(content.to_owned()).unwrap(),
            client_message_id: client_id.map(Uuid::from_u128),
        })
    }

    fn begun(batch: &[Arc<NewMessage>], stored: Vec<Message>) -> Begun {
        let standing = Locked { last_seq: 10, last_activity_at: OffsetDateTime::UNIX_EPOCH };
        Begun { locked: batch.iter().map(|new| (new.conversation.id(), standing)).collect(), stored }
    }

    fn stored(new: Arc<NewMessage>) -> Message {
        Message { new, ..crate::domain::message::tests::example() }
    }

    #[test]
    fn seq_counts_on_in_each_conversation_and_unread_on_each_side() {
        let batch = [
            new("user:d", "contact:p", "1", None),
            new("contact:p", "user:d", "2", None),
            new("user:d", "contact:q", "3", None),
            new("user:d", "contact:p", "4", None),
        ];
        let judged = judge(&batch, begun(&batch, vec![]), now()).unwrap();
        let seqs: Vec<_> = judged.verdicts.iter().filter_map(Verdict::new_message).map(|m| m.seq).collect();
        assert_eq!(seqs, [11, 12, 11, 13]);
        let bump = judged.bumps.iter().find(|bump| bump.id == batch[0].conversation.id()).unwrap();
        assert_eq!((bump.at.last_seq, bump.unread), (13, [1, 2]));
    }

    #[test]
    fn repeats_are_recognised_in_the_table_and_in_the_batch_and_take_no_seq() {
        let batch = [
            new("user:d", "contact:p", "1", Some(1)),
            new("user:d", "contact:p", "2", Some(2)),
            new("user:d", "contact:p", "2", Some(2)),
            new("user:d", "contact:p", "other", Some(2)),
            new("contact:p", "user:d", "2", Some(2)),
            new("user:d", "contact:p", "other", Some(1)),
        ];
        let judged = judge(&batch, begun(&batch, vec![stored(batch[0].clone())]), now()).unwrap();
        let verdicts = &judged.verdicts;
        assert!(matches!(&verdicts[0], Verdict::RepeatsStored(_)));
        assert!(matches!(&verdicts[1], Verdict::New(m) if m.seq == 11));
        assert!(matches!(&verdicts[2], Verdict::RepeatsEarlier(1)));
        assert!(matches!(&verdicts[3], Verdict::IdReused));
        assert!(matches!(&verdicts[4], Verdict::New(m) if m.seq == 12), "another sender's ids are its own");
        assert!(matches!(&verdicts[5], Verdict::IdReused));
    }

    #[test]
    fn time_does_not_run_backwards_within_a_conversation() {
        let batch = [new("user:d", "contact:p", "1", None)];
        let mut ahead = begun(&batch, vec![]);
        let later = now() + time::Duration::hours(1);
        ahead.locked.values_mut().for_each(|locked| locked.last_activity_at = later);
        let judged = judge(&batch, ahead, now()).unwrap();
        assert_eq!(judged.verdicts[0].new_message().unwrap().sent_at, later);
    }
}
