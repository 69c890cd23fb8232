//! The tables `audit_log` and `audit_chains`: added to, never changed; and read row by row, by whoever verifies or exports.
//!
//! A chain is lent to one transaction at a time. What it adds, it adds in that transaction; when nobody knows whether that was
//! committed, the chain is looked at before it is used again ([`chains`]).

pub(in crate::store) mod chains;
pub(in crate::store) mod message_reader;
pub(in crate::store) mod reader;

use std::sync::Arc;

use deadpool_postgres::{GenericClient, Object};
use shared::audit::AuditEntry;
use tokio_postgres::Statement;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

use crate::audit::chain::Head;
use crate::audit::key::Mac;
use crate::audit::row::Row;
use crate::model::message::Message;
use crate::store::{Store, StoreError};
use chains::{Chain, Chains};

/// What PostgreSQL counts its microseconds from, in seconds since 1970.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Moves the end of a chain, `$only` if. Parameters: chain, its end, its seal.
macro_rules! move_end {
    ($only:literal) => {
        concat!("update audit_chains set n = $2::bigint, seal = $3::bytea where id = $1::bigint", $only)
    };
}
pub(in crate::store) use move_end;

/// Adds rows, `$only` if. Parameters: chain, two others, then the columns of the rows; `$text_macs` is one more, wherever the
/// statement has room for it.
macro_rules! add_rows {
    ($text_macs:literal, $only:literal) => {
        concat!(
            "insert into audit_log (chain, n, at, times, outcome, conversation_id, event_id, actor, action, acts_for,
                counterpart, location_id, message_ids, detail, request_id, source, mac, text_mac)
            select $1::bigint, n, at, times, outcome, conversation_id, event_id, actor, action, acts_for, counterpart,
                location_id, case when first <= last then ($18::uuid[])[first:last] end, detail, request_id, source, mac, text_mac
            from unnest($4::bigint[], $5::timestamptz[], $6::integer[], $7::smallint[], $8::uuid[], $9::uuid[],
                $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[],
                $19::integer[], $20::integer[], $21::bytea[], ",
            $text_macs,
            "::bytea[]) as x (n, at, times, outcome, conversation_id, event_id, actor, action, acts_for, counterpart,
                      location_id, detail, request_id, source, first, last, mac, text_mac)",
            $only
        )
    };
}
pub(in crate::store) use add_rows;

/// Adds rows, and tells the chain's end. Its parameters are those of [`Columns::parameters`], and [`Columns::text_macs`].
pub(in crate::store) const APPEND: &str = concat!("with head as (", move_end!(""), ") ", add_rows!("$22", ""));

/// A chain in use. What becomes of it without [`Lease::committed`]: unused, it goes back; used, it is doubtful.
pub(in crate::store) struct Lease {
    chains: Arc<Chains>,
    chain: Option<Chain>,
    /// Where it ends once the transaction is committed.
    end: Option<Head>,
}

impl Lease {
    pub(in crate::store) fn new(chains: Arc<Chains>, chain: Chain) -> Self {
        Self { chains, chain: Some(chain), end: None }
    }

    /// What the row about a new message has of its text.
    pub(in crate::store) fn text_mac(&self, message: &Message) -> Vec<u8> {
        self.chains.key.text_mac(message.id, message.new.content.as_str())
    }

    /// Gives rows their places. They are to be added by the transaction that this was lent for, all in one go.
    pub(in crate::store) fn chain_rows<'a>(&mut self, rows: &'a [Row]) -> Result<ChainedRows<'a>, StoreError> {
        let chain = self.chain.as_ref().filter(|_| self.end.is_none());
        let mut head = chain.ok_or_else(|| StoreError::internal("a chain was added to twice"))?.head;
        let (first, mut macs, mut buffer) = (head.n + 1, Vec::with_capacity(rows.len()), Vec::new());
        for row in rows {
            head.advance(&self.chains.key, row, &mut buffer);
            macs.push(head.mac);
        }
        self.end = Some(head);
        Ok(ChainedRows { rows, first, macs, head, seal: head.seal(&self.chains.key) })
    }

    /// What was given its place was not written, and that is certain: the chain is as it was.
    pub(in crate::store) fn rollback(&mut self) {
        self.end = None;
    }

    /// Adds rows, all in one go, in the transaction that this was lent for. `statement` is [`APPEND`].
    pub(in crate::store) async fn append(
        &mut self,
        client: &impl GenericClient,
        statement: &Statement,
        rows: &[Row],
    ) -> Result<(), StoreError> {
        let chained = self.chain_rows(rows)?;
        let columns = chained.columns()?;
        let added = client.execute(statement, &[&columns.parameters()[..], &[columns.text_macs()]].concat()).await;
        if let Err(error) = added {
            self.statement_failed(&error);
            return Err(error.into());
        }
        Ok(())
    }

    /// A statement that adds to the chain has failed. Where the database says that it refuses what the statement does, nothing is
    /// written and the chain is not to blame: it is used again. Otherwise each attempt would open another one.
    pub(in crate::store) fn statement_failed(&mut self, error: &tokio_postgres::Error) {
        if error.code().is_some_and(is_statement_error) {
            self.rollback();
        }
    }

    /// Whether nobody else holds the row of the chain. `client` must be outside of a transaction.
    pub(in crate::store) async fn is_free(&self, client: &Object) -> bool {
        let Some(chain) = &self.chain else { return false };
        let look = "select from audit_chains where id = $1 for no key update skip locked";
        let looked = async { client.query_opt(&client.prepare_cached(look).await?, &[&chain.head.chain]).await };
        matches!(looked.await, Ok(Some(_)))
    }

    /// The transaction was committed: the chain is free for the next one.
    pub(in crate::store) fn committed(mut self) {
        if let (Some(chain), Some(end)) = (&mut self.chain, self.end.take()) {
            chain.head = end;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match (self.chain.take(), self.end) {
            (Some(chain), None) => self.chains.release(chain),
            (Some(chain), Some(_)) => self.chains.mark_doubtful(chain),
            (None, _) => {}
        }
    }
}

/// Rows with their places and hashes.
pub(in crate::store) struct ChainedRows<'a> {
    rows: &'a [Row],
    first: i64,
    macs: Vec<Mac>,
    head: Head,
    seal: Mac,
}

/// Whether an error says that the statement itself is refused, whichever chain it adds to: rights, the schema, values. A row that
/// is there already, or one that is missing, may be the chain's.
fn is_statement_error(state: &SqlState) -> bool {
    ["22", "42"].iter().any(|class| state.code().starts_with(class))
        || [SqlState::CHECK_VIOLATION, SqlState::NOT_NULL_VIOLATION].contains(state)
}

impl ChainedRows<'_> {
    /// What a statement that adds them is told.
    pub(in crate::store) fn columns(&self) -> Result<Columns<'_>, StoreError> {
        fn column<'a, T>(rows: &'a [Row], value: impl Fn(&'a Row) -> T) -> Vec<T> {
            rows.iter().map(value).collect()
        }
        let rows = self.rows;
        let (mut ids, mut firsts, mut lasts) = (Vec::<Uuid>::new(), Vec::<i32>::new(), Vec::<i32>::new());
        for row in rows {
            firsts.push(i32::try_from(ids.len() + 1).map_err(StoreError::internal)?);
            ids.extend(row.message_ids.iter().flatten());
            lasts.push(i32::try_from(ids.len()).map_err(StoreError::internal)?);
        }
        Ok(Columns {
            chain: self.head.chain,
            end: self.head.n,
            seal: &self.seal,
            positions: (self.first..=self.head.n).collect(),
            at: column(rows, |row| Micros(row.at)),
            times: column(rows, |row| row.times),
            outcomes: column(rows, |row| row.outcome),
            conversations: column(rows, |row| row.conversation_id),
            events: column(rows, |row| row.event_id),
            words: [column(rows, |row| row.actor.as_str()), column(rows, |row| row.action.as_str())],
            texts: [
                column(rows, |row| row.acts_for.as_deref()),
                column(rows, |row| row.counterpart.as_deref()),
                column(rows, |row| row.location_id.as_deref()),
                column(rows, |row| row.detail.as_deref()),
                column(rows, |row| row.request_id.as_deref()),
                column(rows, |row| row.source.as_deref()),
            ],
            ids,
            firsts,
            lasts,
            macs: self.macs.iter().map(Mac::as_slice).collect(),
            text_macs: column(rows, |row| row.text_mac.as_deref()),
        })
    }
}

/// Rows by the column.
pub(in crate::store) struct Columns<'a> {
    chain: i64,
    end: i64,
    seal: &'a [u8],
    positions: Vec<i64>,
    at: Vec<Micros>,
    times: Vec<i32>,
    outcomes: Vec<i16>,
    conversations: Vec<Option<Uuid>>,
    events: Vec<Option<Uuid>>,
    words: [Vec<&'a str>; 2],
    texts: [Vec<Option<&'a str>>; 6],
    /// Of all messages of all rows; those of a row are from its first to its last, which count from 1.
    ids: Vec<Uuid>,
    firsts: Vec<i32>,
    lasts: Vec<i32>,
    macs: Vec<&'a [u8]>,
    text_macs: Vec<Option<&'a [u8]>>,
}

impl Columns<'_> {
    /// The one that has no number of its own.
    pub(in crate::store) fn text_macs(&self) -> &(dyn ToSql + Sync) {
        &self.text_macs
    }

    /// In the order in which [`APPEND`] numbers them.
    pub(in crate::store) fn parameters(&self) -> [&(dyn ToSql + Sync); 21] {
        let [actor, action] = &self.words;
        let [acts_for, counterpart, location, detail, request, source] = &self.texts;
        [
            &self.chain,
            &self.end,
            &self.seal,
            &self.positions,
            &self.at,
            &self.times,
            &self.outcomes,
            &self.conversations,
            &self.events,
            actor,
            action,
            acts_for,
            counterpart,
            location,
            detail,
            request,
            source,
            &self.ids,
            &self.firsts,
            &self.lasts,
            &self.macs,
        ]
    }
}

impl Store {
    /// Writes entries, all or none, and answers when they are on disk.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn record(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        self.with(async |client| append(client, self.chains.lend(client).await?, entries.iter()).await).await
    }

    /// The same for entries that may have come before, which their events tell.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Contended`] when somebody else has just written one of them.
    pub async fn record_once(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        const KNOWN: &str = "select event_id from audit_log where event_id = any($1)";
        self.with(async |client| {
            let statement = client.prepare_cached(KNOWN).await?;
            let events: Vec<Uuid> = entries.iter().filter_map(|entry| entry.event).collect();
            let rows = client.query(&statement, &[&events]).await?;
            let mut known =
                rows.iter().map(|row| row.try_get(0)).collect::<Result<std::collections::HashSet<Uuid>, _>>()?;
            let new = entries.iter().filter(|entry| entry.event.is_none_or(|event| known.insert(event)));
            append(client, self.chains.lend(client).await?, new).await
        })
        .await
    }

    /// Logs where the chains of this process end, as far as that has changed: whoever keeps the log elsewhere can tell
    /// later whether the trail was set back.
    pub fn log_anchors(&self) {
        self.chains.log_anchors();
    }
}

/// Its own transaction: a single statement.
async fn append(
    client: &Object,
    mut lease: Lease,
    entries: impl Iterator<Item = &AuditEntry>,
) -> Result<(), StoreError> {
    let rows: Vec<Row> = entries.map(Row::from).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let statement = client.prepare_cached(APPEND).await?;
    lease.append(client, &statement, &rows).await?;
    lease.committed();
    Ok(())
}

/// A time as microseconds since 1970, whichever it is: the verifier must be able to read what somebody has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Micros(pub(in crate::store) i64);

impl ToSql for Micros {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        self.0.wrapping_sub(EPOCH_MICROS).to_sql(ty, out)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Micros {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(i64::from_sql(ty, raw)?.wrapping_add(EPOCH_MICROS)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_given_up_only_for_what_may_be_its_own_fault() {
        for state in ["42501", "42P01", "42703", "22021", "23514", "23502"] {
            assert!(is_statement_error(&SqlState::from_code(state)), "{state}");
        }
        for state in ["23505", "23503", "55P03", "57014", "57P01", "08006", "40001", "53100", "XX000"] {
            assert!(!is_statement_error(&SqlState::from_code(state)), "{state}");
        }
    }
}
