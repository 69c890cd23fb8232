//! The transaction of a batch of sends: conversations, messages, outbox and audit trail together, or nothing.
//!
//! Ordinarily it is one statement whatever the size ([`at_once`]), which writes nothing unless every conversation is open and
//! no send a repeat. Otherwise it is two round trips ([`step_by_step`]): begin, count the conversations up, which locks them,
//! and look for repeats; then write everything and commit. Where a send turns out to be a repeat, all is undone and counted
//! again without it.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::Arc;

use deadpool_postgres::Object;
use shared::audit::Action;
use shared::channel::Channel;
use shared::event::Draft;
use shared::ids::{ConversationId, LocationId, MessageId};
use shared::participant::Participant;
use shared::redacted::Redacted;
use time::OffsetDateTime;
use tokio::try_join;
use tokio_postgres::Statement;
use uuid::Uuid;

use super::audit::{self, Lease};
use super::conversations::{self, Bump, Bumps, Counted};
use super::data_keys::{self, Sealing};
use super::outbox::{self, OutboxEntry, OutboxEvent};
use super::{Store, StoreError, messages};
use crate::audit::row::Row as AuditRow;
use crate::domain::inbox::{Changed, Standing};
use crate::domain::message::{Message, NewMessage, now};
use crate::domain::origin::Origin;
use crate::vault::Vault;

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
    /// [`StoreError`] for the whole batch. Nothing was written, unless the connection broke during the commit:
    /// then nobody knows, and only a repeat with the same `client_message_id` can tell.
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

/// What is known before the transaction begins.
struct Terms<'a> {
    statements: Statements,
    sealing: Sealing,
    vault: Option<&'a Vault>,
}

/// Prepared before the transaction: within it, everything must be on its way in one go and in order.
struct Statements {
    bump: Statement,
    repeats: Statement,
    insert: Statement,
    remember: Statement,
    audit: Statement,
}

impl Statements {
    async fn prepare(client: &Object, sealing: &Sealing) -> Result<Self, StoreError> {
        let (bump, repeats, insert, remember, audit) = try_join!(
            client.prepare_cached(conversations::BUMP),
            client.prepare_cached(messages::BY_CLIENT_ID),
            client.prepare_cached(messages::insert_statement(sealing)),
            client.prepare_cached(outbox::INSERT_MESSAGES),
            client.prepare_cached(audit::APPEND),
        )?;
        Ok(Self { bump, repeats, insert, remember, audit })
    }
}

/// All that a batch of new messages writes, in one statement. Parameters: those of [`audit::APPEND`], $1 to $21; those of
/// [`conversations::BUMP`], $22 to $26; then the messages' columns, of which `$content` are those from $36 on, of the types
/// `$types`. Places in a conversation are relative to where it then stands.
///
/// `bumped` counts nothing when a conversation is not open or a client id is known, and everything else is written when it has
/// counted all of them: behind the locks, so the outbox is in the order of the commits. What was committed while it waited for a
/// lock it does not see: a repeat of that violates the index of client ids, which undoes everything.
/// So does a conversation that was deleted meanwhile: the outbox takes no row without ids.
macro_rules! at_once {
    ($content:literal, $types:literal) => {
        concat!(
            "with bumped as (",
            conversations::count_up!(
                "$22",
                "$23",
                "$24",
                "$25",
                "$26",
                " and (select count(*) from conversations where id = any($22::uuid[])) = cardinality($22::uuid[])
                  and not exists (
                      select from unnest($35::uuid[], $28::text[], $29::text[], $31::text[])
                          as x (client_message_id, location_id, user_id, contact_id)
                      join messages m on m.client_message_id = x.client_message_id and m.location_id = x.location_id
                           and coalesce('user:' || m.sender_user_id::text, 'contact:' || m.sender_contact_id::text)
                               = coalesce('user:' || x.user_id, 'contact:' || x.contact_id)
                  )"
            ),
            "), written as (
                insert into messages (id, location_id, sender_user_id, receiver_user_id, sender_contact_id,
                    receiver_contact_id, conversation_id, seq, client_message_id, sent_at, ",
            $content,
            ") select x.id, x.location_id, x.sender_user_id, x.receiver_user_id, x.sender_contact_id,
                    x.receiver_contact_id, x.conversation_id, b.last_seq + x.seq, x.client_message_id, b.last_activity_at, ",
            $content,
            "   from unnest($27::uuid[], $28::text[], $29::text[], $30::text[], $31::text[], $32::text[], $33::uuid[],
                    $34::bigint[], $35::uuid[], ",
            $types,
            ") as x (id, location_id, sender_user_id, receiver_user_id, sender_contact_id,
                    receiver_contact_id, conversation_id, seq, client_message_id, ",
            $content,
            ")  join bumped b on b.id = x.conversation_id
            ), remembered as (
                insert into outbox (kind, message_ids)
                select 'message', case when (select count(*) from bumped) = cardinality($22::uuid[]) then $27::uuid[] end
                where exists (select from bumped)
                returning id
            ), head as (",
            audit::move_end!(" and (select count(*) from bumped) = cardinality($22::uuid[])"),
            "), noted as (",
            audit::add_rows!(" where (select count(*) from bumped) = cardinality($22::uuid[])"),
            ") select b.*, (select id from remembered) from bumped b"
        )
    };
}

fn at_once_statement(sealing: &Sealing) -> &'static str {
    const PLAIN: &str = at_once!("content", "$36::text[]");
    const SEALED: &str = at_once!("content_key, content_sealed", "$36::uuid[], $37::bytea[]");
    if sealing.is_some() { SEALED } else { PLAIN }
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
        let changed = changed(&self.new, &self.counted)?;
        done(&self.verdicts, batch, origins, &self.new, Some((self.outbox_id, changed)))
    }
}

/// Writes a batch as if all of it were new and every conversation open. `None`, and nothing is written, when that is not so
/// or another transaction stands in the way.
async fn at_once(
    client: &Object,
    sealing: &Sealing,
    batch: &[Arc<NewMessage>],
    origins: &[Origin],
    lease: &mut Lease,
) -> Result<Option<Written>, StoreError> {
    let judged = judge(batch, &HashMap::new());
    let mut new = place(batch, &judged)?;
    let trail = audit_rows(&judged.verdicts, batch, origins, &new)?;
    let statement = client.prepare_cached(at_once_statement(sealing)).await?;
    let placed = lease.place(&trail)?;
    let rows = {
        let (trail, bumps) = (placed.columns()?, Bumps::new(&judged.bumps, now()));
        let messages = messages::Columns::new(&new, sealing)?;
        let parameters = [&trail.parameters()[..], &bumps.parameters(), &messages.parameters()].concat();
        match client.query(&statement, &parameters).await.map_err(StoreError::from) {
            // Undone, and certainly so: the other transaction is looked at behind the locks.
            Err(StoreError::Contended(_)) => Vec::new(),
            rows => rows?,
        }
    };
    let Some(row) = rows.first() else {
        lease.withdraw();
        return Ok(None);
    };
    let outbox_id = row.try_get(5)?;
    let counted = conversations::counted(&rows)?;
    settle(&mut new, &counted)?;
    Ok(Some(Written { verdicts: judged.verdicts, new, counted, outbox_id }))
}

async fn step_by_step(
    client: &Object,
    terms: &Terms<'_>,
    batch: &[Arc<NewMessage>],
    origins: &[Origin],
    mut lease: Lease,
) -> Result<Done, StoreError> {
    let mut stored: HashMap<RepeatKey, Message> = HashMap::new();
    loop {
        let judged = judge(batch, &stored);
        if judged.bumps.is_empty() {
            let trail = audit_rows(&judged.verdicts, batch, origins, &[])?;
            lease.place(&trail)?.insert(client, &terms.statements.audit).await?;
            lease.committed();
            return done(&judged.verdicts, batch, origins, &[], None);
        }
        let begun = Begun::begin(client, terms, batch, &judged).await?;
        if begun.counted.len() < judged.bumps.len() {
            // Somebody writes in a conversation for the first time.
            client.batch_execute("rollback").await?;
            let unopened = |new: &&Arc<NewMessage>| !begun.counted.contains_key(&new.conversation.id());
            let new: Vec<_> = batch.iter().filter(unopened).map(|new| &new.conversation).collect();
            conversations::open(client, &new).await?;
            continue;
        }
        let known = stored.len();
        stored.extend(begun.repeats.into_iter().filter_map(|message| Some((repeat_key(&message.new)?, message))));
        if judged.verdicts.iter().zip(batch).any(|(verdict, new)| verdict.is_new() && is_stored(new, &stored)) {
            debug_assert!(stored.len() > known, "what was known was no new message");
            client.batch_execute("rollback").await?;
            continue;
        }
        let mut new = place(batch, &judged)?;
        settle(&mut new, &begun.counted)?;
        let trail = audit_rows(&judged.verdicts, batch, origins, &new)?;
        let outbox_id = write(client, terms, &new, &trail, &mut lease).await?;
        lease.committed();
        return Written { verdicts: judged.verdicts, new, counted: begun.counted, outbox_id }.done(batch, origins);
    }
}

/// Where things stand once the conversations are counted up.
struct Begun {
    counted: HashMap<ConversationId, Counted>,
    /// Messages that were sent under one of the new messages' client ids.
    repeats: Vec<Message>,
}

impl Begun {
    /// Begins the transaction, counts the conversations up and finds the repeats, in one round trip. The statements run
    /// in order, so repeats are looked for behind the locks: of two that race, the second sees the first.
    async fn begin(
        client: &Object,
        Terms { statements, vault, .. }: &Terms<'_>,
        batch: &[Arc<NewMessage>],
        judged: &Judged,
    ) -> Result<Self, StoreError> {
        let new = judged.verdicts.iter().zip(batch).filter(|(verdict, _)| verdict.is_new());
        let (mut client_ids, mut locations, mut senders) = (Vec::new(), Vec::new(), Vec::new());
        for (_, new) in new {
            if let Some(client_id) = new.client_message_id {
                client_ids.push(client_id);
                locations.push(new.conversation.location().as_str());
                senders.push(new.sender.to_string());
            }
        }
        let repeats = async {
            match client_ids.is_empty() {
                true => Ok(Vec::new()),
                false => Ok(client.query(&statements.repeats, &[&client_ids, &locations, &senders]).await?),
            }
        };
        let ((), counted, repeats) = try_join!(
            biased;
            async { Ok(client.batch_execute("begin").await?) },
            conversations::bump(client, &statements.bump, &judged.bumps, now()),
            repeats,
        )?;
        let opening = data_keys::opening(client, *vault, &repeats).await?;
        let repeats = repeats.iter().map(|row| messages::message(row, &opening)).collect::<Result<_, _>>()?;
        Ok(Self { counted, repeats })
    }
}

/// Writes what is new and commits, in one round trip. A commit behind a failed write is a rollback, and the failed
/// write tells. Returns the row of the outbox.
async fn write(
    client: &Object,
    Terms { statements, sealing, .. }: &Terms<'_>,
    new: &[Message],
    trail: &[AuditRow],
    lease: &mut Lease,
) -> Result<i64, StoreError> {
    let ids: Vec<_> = new.iter().map(|message| message.id).collect();
    let placed = lease.place(trail)?;
    let ((), row, (), ()) = try_join!(
        biased;
        messages::insert(client, &statements.insert, new, sealing),
        async { Ok(client.query_one(&statements.remember, &[&ids]).await?) },
        placed.insert(client, &statements.audit),
        async { Ok(client.batch_execute("commit").await?) },
    )?;
    Ok(row.try_get(0)?)
}

/// What the audit trail says of a batch: a row a send, whatever became of it.
fn audit_rows(
    verdicts: &[Verdict],
    batch: &[Arc<NewMessage>],
    origins: &[Origin],
    new: &[Message],
) -> Result<Vec<AuditRow>, StoreError> {
    let mut new = new.iter();
    let mut ids: Vec<Option<MessageId>> = Vec::with_capacity(batch.len());
    let mut rows = Vec::with_capacity(batch.len());
    for ((verdict, sent), origin) in verdicts.iter().zip(batch).zip(origins) {
        let (outcome, id) = match verdict {
            Verdict::New => (201, new.next().map(|message| message.id)),
            Verdict::RepeatsStored(message) => (200, Some(message.id)),
            Verdict::RepeatsEarlier(place) => (200, ids.get(*place).copied().flatten()),
            Verdict::IdReused => (409, None),
        };
        ids.push(id);
        let mut entry = origin.entry(Action::Send, outcome).in_conversation(&sent.conversation, Some(&sent.sender));
        entry.message_ids.extend(id);
        rows.push(AuditRow::from(&entry));
    }
    match rows.len() == batch.len() {
        true => Ok(rows),
        false => Err(StoreError::internal("a send without an origin")),
    }
}

/// What a send turns out to be.
#[derive(Debug)]
enum Verdict {
    New,
    RepeatsStored(Message),
    /// The same as the send at this place of the batch.
    RepeatsEarlier(usize),
    IdReused,
}

impl Verdict {
    fn is_new(&self) -> bool {
        matches!(self, Self::New)
    }
}

struct Judged {
    verdicts: Vec<Verdict>,
    /// What the new ones add to their conversations.
    bumps: Vec<Bump>,
}

/// Who sent under which id: what a repeat is recognised by.
type RepeatKey = (Uuid, LocationId, Participant);

fn repeat_key(new: &NewMessage) -> Option<RepeatKey> {
    Some((new.client_message_id?, new.conversation.location().clone(), new.sender.clone()))
}

fn is_stored(new: &NewMessage, stored: &HashMap<RepeatKey, Message>) -> bool {
    !stored.is_empty() && repeat_key(new).is_some_and(|key| stored.contains_key(&key))
}

/// Tells repeats from new messages, as far as the stored ones are known. Free of SQL.
fn judge(batch: &[Arc<NewMessage>], stored: &HashMap<RepeatKey, Message>) -> Judged {
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
/// them: the last one has 0. Free of SQL.
fn place(batch: &[Arc<NewMessage>], judged: &Judged) -> Result<Vec<Message>, StoreError> {
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

/// Gives placed messages the places and times that they have in their conversations, as counted. Free of SQL.
fn settle(new: &mut [Message], counted: &HashMap<ConversationId, Counted>) -> Result<(), StoreError> {
    for message in new {
        let counted = counted
            .get(&message.new.conversation.id())
            .ok_or_else(|| StoreError::internal("a conversation is not locked"))?;
        message.seq += counted.last_seq;
        message.sent_at = counted.last_activity_at;
    }
    Ok(())
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
                let draft = Draft { request_id: Some(origin.request.request_id.clone()), ..message.event(&json) };
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
    use super::*;
    use crate::domain::message::Content;
    use shared::participant::Conversation;
    use shared::request::RequestContext;
    use shared::token::{Actor, KeyId, Principal};

    fn origin() -> Origin {
        let principal = Principal {
            subject: "doc123".parse().unwrap(),
            key: KeyId::SECRET,
            actor: Actor::Person("user:doc123".parse().unwrap()),
            locations: vec![],
            expires_at: OffsetDateTime::UNIX_EPOCH,
            issued_at: None,
            jti: None,
        };
        let request = RequestContext { request_id: "r1".into(), address: [127, 0, 0, 1].into() };
        Origin { principal: Arc::new(principal), request }
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
        let message = Message { new: new.clone(), ..crate::domain::message::tests::example() };
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
