//! The transaction of a batch of sends: conversations, messages, outbox and audit trail together, or nothing.
//!
//! Ordinarily it is one statement whatever the size ([`at_once()`]), which writes nothing unless every conversation is open and
//! no send a repeat. Otherwise it is two round trips ([`step_by_step()`]): begin, count the conversations up, which locks them,
//! and look for repeats; then write everything and commit. Where a send turns out to be a repeat, all is undone and counted
//! again without it.

mod dedup;
mod multi_statement;
mod single_statement;

use std::collections::HashMap;
use std::sync::Arc;

use shared::audit::Action;
use shared::channel::Channel;
use shared::event::OutgoingEvent;
use shared::ids::{ConversationId, MessageId};
use shared::redacted::Redacted;

use super::audit::Lease;
use super::conversations::Counted;
use super::keys::data_keys;
use super::outbox::{OutboxEntry, OutboxEvent};
use super::{Store, StoreError};
use crate::audit::row::Row as AuditRow;
use crate::domain::inbox::{Changed, Standing};
use crate::model::message::{Message, NewMessage};
use crate::model::origin::Origin;
use dedup::Verdict;
use multi_statement::{Statements, Terms, step_by_step};
use single_statement::at_once;

/// What became of one send.
#[derive(Debug, Clone)]
pub enum SendOutcome {
    /// It is a new message, as clients get it.
    Sent(Redacted<String>),
    /// It was sent before; the message as it stands now, as clients get it.
    Repeated(Redacted<String>),
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
    /// Writes a batch of sends in one transaction and says what became of each, in order. `origins` say who sends each.
    ///
    /// # Errors
    /// [`StoreError`] for the whole batch. Nothing was written, unless it is [`StoreError::Unavailable`]: the connection may have
    /// broken during the commit, or the answer cannot be read. Then nobody knows, and only a repeat with the same
    /// `client_message_id` can tell.
    pub async fn send(&self, batch: &[Arc<NewMessage>], origins: &[Origin]) -> Result<Done, StoreError> {
        self.with(async |client| {
            let locations = batch.iter().map(|new| new.conversation.location());
            let sealing = data_keys::sealing(client, self.vault.as_deref(), locations).await?;
            let mut lease = self.chains.lend(client).await?;
            if let Some(written) = at_once(client, &sealing, batch, origins, &mut lease).await? {
                lease.committed();
                return written.done(batch, origins);
            }
            // Rare, and larger than all the rest.
            Box::pin(async {
                let statements = Statements::prepare(client, &sealing).await?;
                let terms = Terms { statements, sealing, vault: self.vault.as_deref() };
                let done = step_by_step(client, &terms, batch, origins, lease).await;
                if done.is_err() {
                    // On a broken connection this fails too, and the pool drops it.
                    let _ = client.batch_execute("rollback").await;
                }
                done
            })
            .await
        })
        .await
    }
}

/// It was written, and what the database has said of it cannot be read. Never a reason to write it again.
fn unknown(cause: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(format!("what became of sends cannot be read: {cause}").into())
}

/// What was written, and is on disk.
struct Written {
    verdicts: Vec<Verdict>,
    new: Vec<Message>,
    counted: HashMap<ConversationId, Counted>,
    outbox_id: i64,
}

impl Written {
    fn done(&self, batch: &[Arc<NewMessage>], origins: &[Origin]) -> Result<Done, StoreError> {
        let changed = changed(&self.new, &self.counted).map_err(unknown)?;
        done(&self.verdicts, batch, origins, &self.new, Some((self.outbox_id, changed))).map_err(unknown)
    }
}

/// What the audit trail says of a batch: a row a send, whatever became of it, and of a new message what it says, hashed.
fn audit_rows(
    verdicts: &[Verdict],
    batch: &[Arc<NewMessage>],
    origins: &[Origin],
    new: &[Message],
    lease: &Lease,
) -> Result<Vec<AuditRow>, StoreError> {
    let mut new = new.iter();
    let mut ids: Vec<Option<MessageId>> = Vec::with_capacity(batch.len());
    let mut rows = Vec::with_capacity(batch.len());
    for ((verdict, sent), origin) in verdicts.iter().zip(batch).zip(origins) {
        let written = if verdict.is_new() { new.next() } else { None };
        let (outcome, id) = match verdict {
            Verdict::New => (201, written.map(|message| message.id)),
            Verdict::RepeatsStored(message) => (200, Some(message.id)),
            Verdict::RepeatsEarlier(place) => (200, ids.get(*place).copied().flatten()),
            Verdict::IdReused => (409, None),
        };
        ids.push(id);
        let mut entry = origin.entry(Action::Send, outcome).in_conversation(&sent.conversation, Some(&sent.sender));
        entry.message_ids.extend(id);
        let text_mac = written.map(|message| lease.text_mac(message));
        rows.push(AuditRow { text_mac, ..AuditRow::from(&entry) });
    }
    match rows.len() == batch.len() {
        true => Ok(rows),
        false => Err(StoreError::internal("a send without an origin")),
    }
}

/// How the conversations of new messages stand with them.
fn changed(new: &[Message], counted: &HashMap<ConversationId, Counted>) -> Result<Vec<Changed>, StoreError> {
    let newest: HashMap<ConversationId, &Message> =
        new.iter().map(|message| (message.new.conversation.id(), message)).collect();
    let stands = |(id, message): (ConversationId, &Message)| {
        let counted = counted.get(&id).ok_or_else(|| StoreError::internal("a conversation is not locked"))?;
        let (unread, last_activity_at) = (counted.unread, counted.last_activity_at);
        Ok(Changed::To(Box::new(Standing { last_message: message.clone(), unread, last_activity_at })))
    };
    newest.into_iter().map(stands).collect()
}

fn done(
    verdicts: &[Verdict],
    batch: &[Arc<NewMessage>],
    origins: &[Origin],
    new: &[Message],
    kept: Option<(i64, Vec<Changed>)>,
) -> Result<Done, StoreError> {
    let mut new = new.iter();
    let mut events = Vec::with_capacity(new.len());
    let mut outcomes: Vec<SendOutcome> = Vec::with_capacity(batch.len());
    for (verdict, origin) in verdicts.iter().zip(origins) {
        outcomes.push(match verdict {
            Verdict::New => {
                let message = new.next().ok_or_else(|| StoreError::internal("a message was not placed"))?;
                let json = message.to_json().map_err(StoreError::internal)?;
                let channel = Channel::from(&message.new.conversation);
                let draft =
                    OutgoingEvent { request_id: Some(origin.request.request_id.clone()), ..message.event(&json) };
                events.push(OutboxEvent { channel, draft });
                SendOutcome::Sent(json.into())
            }
            Verdict::RepeatsStored(message) => {
                SendOutcome::Repeated(message.to_json().map_err(StoreError::internal)?.into())
            }
            Verdict::RepeatsEarlier(place) => match outcomes.get(*place) {
                Some(SendOutcome::Sent(first)) => SendOutcome::Repeated(first.clone()),
                _ => return Err(StoreError::internal("a repeat of what was not sent")),
            },
            Verdict::IdReused => SendOutcome::IdReused,
        });
    }
    Ok(Done { outcomes, entry: kept.map(|(id, changed)| OutboxEntry { id, events, changed }) })
}

#[cfg(test)]
mod tests {
    use super::dedup::{Judged, RepeatKey, judge, place, repeat_key, settle};
    use super::*;
    use crate::model::deadline::Deadline;
    use crate::model::message::{Content, now};
    use shared::participant::{Conversation, Participant};
    use shared::request::RequestContext;
    use shared::token::{Actor, Principal, VerificationKeyId};
    use time::OffsetDateTime;
    use uuid::Uuid;

    fn origin() -> Origin {
        let principal = Principal {
            subject: "doc123".parse().unwrap(),
            key: VerificationKeyId::SECRET,
            actor: Actor::Participant("user:doc123".parse().unwrap()),
            locations: vec![],
            expires_at: OffsetDateTime::UNIX_EPOCH,
            issued_at: None,
            jti: None,
        };
        let request = RequestContext { request_id: "r1".into(), address: [127, 0, 0, 1].into() };
        Origin { principal: Arc::new(principal), request, deadline: Deadline::of(std::time::Instant::now()) }
    }

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

    fn counted(batch: &[Arc<NewMessage>], judged: &Judged, at: OffsetDateTime) -> HashMap<ConversationId, Counted> {
        let sent = |id| judged.bumps.iter().find(|bump| bump.id == id).map_or(0, |bump| i64::from(bump.sent));
        let stands = |id| Counted { last_seq: 10 + sent(id), last_activity_at: at, unread: [3, 4] };
        batch.iter().map(|new| (new.conversation.id(), stands(new.conversation.id()))).collect()
    }

    fn placed(batch: &[Arc<NewMessage>], judged: &Judged, counted: &HashMap<ConversationId, Counted>) -> Vec<Message> {
        let mut new = place(batch, judged).unwrap();
        settle(&mut new, counted).unwrap();
        new
    }

    fn stored(new: &Arc<NewMessage>) -> (RepeatKey, Message) {
        let message = Message { new: new.clone(), ..crate::model::message::tests::example() };
        (repeat_key(new).unwrap(), message)
    }

    #[test]
    fn what_became_of_sends_does_not_show_what_was_sent() {
        let batch = [new("user:d", "contact:p", "hunter2", None)];
        let judged = judge(&batch, &HashMap::new());
        let placed = placed(&batch, &judged, &counted(&batch, &judged, now()));
        let done =
            done(&judged.verdicts, &batch, &vec![origin(); batch.len()], &placed, Some((1, Vec::new()))).unwrap();
        assert!(matches!(&done.outcomes[0], SendOutcome::Sent(json) if json.expose().contains("hunter2")));
        assert!(!format!("{done:?} {placed:?} {batch:?}").contains("hunter2"));
    }

    #[test]
    fn seq_counts_on_in_each_conversation_and_unread_on_each_side() {
        let batch = [
            new("user:d", "contact:p", "1", None),
            new("contact:p", "user:d", "2", None),
            new("user:d", "contact:q", "3", None),
            new("user:d", "contact:p", "4", None),
        ];
        let judged = judge(&batch, &HashMap::new());
        let bump = judged.bumps.iter().find(|bump| bump.id == batch[0].conversation.id()).unwrap();
        assert_eq!((bump.sent, bump.unread), (3, [1, 2]));
        let at = now();
        let placed = placed(&batch, &judged, &counted(&batch, &judged, at));
        assert_eq!(placed.iter().map(|message| message.seq).collect::<Vec<_>>(), [11, 12, 11, 13]);
        assert!(placed.iter().all(|message| message.sent_at == at), "the time is the database's word");
    }

    #[test]
    fn of_each_conversation_one_row_is_told_with_its_newest_message() {
        let batch = ["1", "2", "3"].map(|text| new("user:d", "contact:p", text, None));
        let other = new("user:d", "contact:q", "4", None);
        let batch = [&batch[..], &[other]].concat();
        let judged = judge(&batch, &HashMap::new());
        let counted = counted(&batch, &judged, now());
        let placed = placed(&batch, &judged, &counted);
        let mut told: Vec<_> = changed(&placed, &counted)
            .unwrap()
            .into_iter()
            .map(|changed| match changed {
                Changed::To(standing) => (standing.last_message.seq, standing.last_message.id, standing.unread),
                Changed::Somehow(_) => panic!("it is known"),
            })
            .collect();
        told.sort_unstable();
        assert_eq!(told, [(11, placed[3].id, [3, 4]), (13, placed[2].id, [3, 4])]);
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
        let judged = judge(&batch, &HashMap::from([stored(&batch[0])]));
        let verdicts = &judged.verdicts;
        assert!(matches!(&verdicts[0], Verdict::RepeatsStored(_)));
        assert!(matches!(&verdicts[1], Verdict::New));
        assert!(matches!(&verdicts[2], Verdict::RepeatsEarlier(1)));
        assert!(matches!(&verdicts[3], Verdict::IdReused));
        assert!(matches!(&verdicts[4], Verdict::New), "another sender's ids are its own");
        assert!(matches!(&verdicts[5], Verdict::IdReused));
        let placed = placed(&batch, &judged, &counted(&batch, &judged, now()));
        assert_eq!(placed.iter().map(|message| message.seq).collect::<Vec<_>>(), [11, 12]);
        let done =
            done(&judged.verdicts, &batch, &vec![origin(); batch.len()], &placed, Some((1, Vec::new()))).unwrap();
        let events = done.entry.unwrap().events;
        assert_eq!(events.len(), 2);
        assert!(events.iter().all(|event| event.draft.request_id.as_deref() == Some("r1")));
        assert!(matches!(&done.outcomes[..], [
            SendOutcome::Repeated(_), SendOutcome::Sent(first), SendOutcome::Repeated(second), SendOutcome::IdReused,
            SendOutcome::Sent(_), SendOutcome::IdReused
        ] if first == second));
    }
}
