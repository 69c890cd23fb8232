//! A batch in one statement and one round trip: the normal case.

use std::collections::HashMap;

use deadpool_postgres::Object;

use super::batch::{CommittedBatch, audit_rows, outcome_unknown};
use super::dedup::{assign_relative_seq, assign_seq, classify};
use crate::model::send::SendRequest;
use crate::store::audit::{self, Lease};
use crate::store::conversations::{self, CounterDeltaColumns};
use crate::store::data_keys::SealingKeys;
use crate::store::{StoreError, messages};

/// Names of the parameters that come before the content, and how many each part has:
///
/// | parameters | part | names |
/// | --- | --- | --- |
/// | `$1` to `$21` | rows of the audit trail, and the head of their chain | [`audit::ROW_PARAMETERS`] |
/// | `$22` to `$27` | counters of the conversations | [`conversations::INCREMENT_PARAMETERS`] |
/// | `$28` to `$36` | new messages | [`messages::INSERT_PARAMETERS`] |
/// | `$37` | plain text, or the key of each sealed text | |
/// | `$38` | sealed texts, when `$37` holds keys | |
/// | the last one | HMACs of the texts, for the audit rows | |
fn parameter_names() -> Vec<&'static str> {
    [&audit::ROW_PARAMETERS[..], &conversations::INCREMENT_PARAMETERS, &messages::INSERT_PARAMETERS].concat()
}

/// All writes of a batch of new messages, in one statement. [`parameter_names`] names its parameters.
///
/// 1. `bumped` locks the conversations and counts them up. It does nothing if a conversation has no row or a client id is stored
///    already.
/// 2. `written` inserts the messages of the counted conversations, and `remembered` the outbox row. They run after the locks of
///    `bumped`, so outbox ids follow the order of commits.
/// 3. `head` moves the end of the audit chain and `noted` inserts the audit rows, only if `bumped` counted every conversation.
///    Otherwise the outbox row has no ids. A constraint rejects that row, and everything is rolled back.
/// 4. `seq` is relative on input: each message adds its conversation's new counter.
///
/// The statement does not see what was committed while it waited for a lock. A repeat committed then violates the unique index of
/// client ids, and everything is rolled back. A conversation deleted then leaves the outbox row without ids, which a constraint
/// rejects.
macro_rules! single_statement {
    ($content:literal, $types:literal, $text_macs:literal) => {
        concat!(
            "with bumped as (",
            conversations::increment_statement!(
                "$22",
                "$23",
                "$24",
                "$25",
                "$26",
                "$27",
                " and (select count(*) from conversations where id = any($22::uuid[])) = cardinality($22::uuid[])
                  and not exists (
                      select from unnest($36::uuid[], $29::text[], $30::text[], $32::text[])
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
            "   from unnest($28::uuid[], $29::text[], $30::text[], $31::text[], $32::text[], $33::text[], $34::uuid[],
                    $35::bigint[], $36::uuid[], ",
            $types,
            ") as x (id, location_id, sender_user_id, receiver_user_id, sender_contact_id,
                    receiver_contact_id, conversation_id, seq, client_message_id, ",
            $content,
            ")  join bumped b on b.id = x.conversation_id
            ), remembered as (
                insert into outbox (kind, message_ids)
                select 'message', case when (select count(*) from bumped) = cardinality($22::uuid[]) then $28::uuid[] end
                where exists (select from bumped)
                returning id
            ), head as (",
            audit::move_end!(" and (select count(*) from bumped) = cardinality($22::uuid[])"),
            "), noted as (",
            audit::add_rows!($text_macs, " where (select count(*) from bumped) = cardinality($22::uuid[])"),
            ") select b.*, (select id from remembered) from bumped b"
        )
    };
}

fn statement_text(sealing: &SealingKeys) -> &'static str {
    const PLAIN: &str = single_statement!("content", "$37::text[]", "$38");
    const SEALED: &str = single_statement!("content_key, content_sealed", "$37::uuid[], $38::bytea[]", "$39");
    if sealing.is_some() { SEALED } else { PLAIN }
}

/// Writes a batch on the assumption that all sends are new and all conversations have rows. Returns `None`, and has written
/// nothing, when that is wrong or another transaction interfered.
pub(super) async fn write_single_statement(
    client: &Object,
    sealing: &SealingKeys,
    batch: &[SendRequest],
    lease: &mut Lease,
) -> Result<Option<CommittedBatch>, StoreError> {
    let classified = classify(batch, &HashMap::new());
    let mut new = assign_relative_seq(batch, &classified)?;
    let trail = audit_rows(&classified.kinds, batch, &new, lease);
    let statement = client.prepare_cached(statement_text(sealing)).await?;
    let chained = lease.chain_rows(&trail)?;
    let rows = {
        let (trail, deltas) = (chained.columns()?, CounterDeltaColumns::new(&classified.deltas));
        let messages = messages::Columns::new(&new, sealing)?;
        let text_macs = [trail.text_macs()];
        let parameters = [&trail.parameters()[..], &deltas.parameters(), &messages.parameters(), &text_macs].concat();
        let content = if sealing.is_some() { 2 } else { 1 };
        debug_assert_eq!(parameters.len(), parameter_names().len() + content + text_macs.len());
        match client.query(&statement, &parameters).await {
            Ok(rows) => rows,
            Err(error) => {
                lease.statement_failed(&error);
                match StoreError::from(error) {
                    // Rolled back with certainty. The multi-statement path looks at the other transaction's result.
                    StoreError::Contended(_) => Vec::new(),
                    // Rolled back too. If this chain is locked, it is abandoned with the lease.
                    error @ (StoreError::Locked(_) | StoreError::TimedOut(_)) => {
                        if lease.is_free(client).await {
                            lease.rollback();
                        }
                        return Err(error);
                    }
                    error => return Err(error),
                }
            }
        }
    };
    let Some(row) = rows.first() else {
        lease.rollback();
        return Ok(None);
    };
    // The batch is committed. An error from here on must not look like a rollback.
    let outbox_id = row.try_get(conversations::INCREMENT_COLUMNS).map_err(outcome_unknown)?;
    let counters = conversations::read_counters(&rows).map_err(outcome_unknown)?;
    assign_seq(&mut new, &counters).map_err(outcome_unknown)?;
    Ok(Some(CommittedBatch { kinds: classified.kinds, new, counters, outbox_id }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of the parameters in a statement.
    fn numbers(statement: &str) -> std::collections::BTreeSet<usize> {
        let behind = statement.split('$').skip(1);
        behind.filter_map(|text| text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()).collect()
    }

    #[test]
    fn statement_uses_every_named_parameter() {
        let names = parameter_names();
        for (sealing, content) in [(None, 1), (Some(HashMap::new()), 2)] {
            let last = names.len() + content + 1;
            assert_eq!(numbers(statement_text(&sealing)), (1..=last).collect(), "{names:?}");
        }
        let position = |name: &str| names.iter().position(|known| *known == name).map(|index| index + 1);
        assert_eq!((position("chain"), position("sent"), position("message_ids")), (Some(1), Some(23), Some(28)));
        assert_eq!(names.len(), 36);
    }
}
