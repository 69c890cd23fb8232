//! A batch in two round trips, with a look behind the locks: when it holds a repeat or a conversation's first message, or
//! another transaction stood in its way.

use std::collections::HashMap;
use std::sync::Arc;

use deadpool_postgres::Object;
use tokio::try_join;
use tokio_postgres::Statement;

use super::dedup::{Judged, RepeatKey, is_stored, judge, place, repeat_key, settle};
use super::{Done, Written, audit_rows, done, unknown};
use crate::audit::row::Row as AuditRow;
use crate::envelope::Vault;
use crate::model::message::{Message, NewMessage};
use crate::model::origin::Origin;
use crate::store::audit::{self, Lease};
use crate::store::conversations::{self, Counted};
use crate::store::keys::data_keys::{self, Sealing};
use crate::store::{StoreError, messages, outbox};
use shared::ids::ConversationId;

/// What is known before the transaction begins.
pub(super) struct Terms<'a> {
    pub(super) statements: Statements,
    pub(super) sealing: Sealing,
    pub(super) vault: Option<&'a Vault>,
}

/// Prepared before the transaction: within it, everything must be on its way in one go and in order.
pub(super) struct Statements {
    bump: Statement,
    repeats: Statement,
    insert: Statement,
    remember: Statement,
    audit: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Object, sealing: &Sealing) -> Result<Self, StoreError> {
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

/// Writes a batch, whatever is in its way: conversations that nobody has opened, repeats, other transactions. Who calls it
/// undoes what a failure leaves.
pub(super) async fn step_by_step(
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
            let trail = audit_rows(&judged.verdicts, batch, origins, &[], &lease)?;
            lease.append(client, &terms.statements.audit, &trail).await?;
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
        let trail = audit_rows(&judged.verdicts, batch, origins, &new, &lease)?;
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
            conversations::bump(client, &statements.bump, &judged.bumps),
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
    let ((), row, (), ()) = try_join!(
        biased;
        messages::insert(client, &statements.insert, new, sealing),
        async { Ok(client.query_one(&statements.remember, &[&ids]).await?) },
        lease.append(client, &statements.audit, trail),
        async { Ok(client.batch_execute("commit").await?) },
    )?;
    // It is committed.
    row.try_get(0).map_err(unknown)
}
