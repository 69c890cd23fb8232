//! The columns of audit rows, and the statements that insert them.

use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

use crate::audit::chain::Head;
use crate::audit::key::Mac;
use crate::audit::row::Row;
use crate::store::StoreError;

/// PostgreSQL's epoch (2000-01-01), in microseconds since 1970.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Moves the head of a chain, under the condition `$only`. Parameters: chain, new end, new seal.
macro_rules! move_end {
    ($only:literal) => {
        concat!("update audit_chains set n = $2::bigint, seal = $3::bytea where id = $1::bigint", $only)
    };
}
pub(in crate::store) use move_end;

/// Inserts rows, under the condition `$only`. Parameters: `$1` to `$3` as in `move_end`, then the columns of the rows up to
/// `$21`. `$text_macs` is the number of one more parameter. [`ROW_PARAMETERS`] names them.
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

/// Names of the parameters of `add_rows` and `move_end`, in order: the first is `$1`. The last part of [`APPEND`], `text_macs`, has a
/// number that depends on the statement.
pub(in crate::store) const ROW_PARAMETERS: [&str; 21] = [
    "chain",
    "chain_end",
    "chain_seal",
    "positions",
    "at",
    "times",
    "outcomes",
    "conversation_ids",
    "event_ids",
    "actors",
    "actions",
    "acts_for",
    "counterparts",
    "location_ids",
    "details",
    "request_ids",
    "sources",
    "message_ids of all rows",
    "first message of a row",
    "last message of a row",
    "macs",
];

/// Inserts rows and moves the head. Parameters: [`Columns::parameters`] and [`Columns::text_macs`].
pub(in crate::store) const APPEND: &str = concat!("with head as (", move_end!(""), ") ", add_rows!("$22", ""));

/// Rows with positions and hashes.
pub(in crate::store) struct ChainedRows<'a> {
    pub(super) rows: &'a [Row],
    pub(super) first: i64,
    pub(super) macs: Vec<Mac>,
    pub(super) head: Head,
    pub(super) seal: Mac,
}

impl ChainedRows<'_> {
    /// The parameters of a statement that inserts the rows.
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

/// Rows by column.
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
    /// Ids of the messages of all rows. The ids of a row go from its first to its last index, which count from 1.
    ids: Vec<Uuid>,
    firsts: Vec<i32>,
    lasts: Vec<i32>,
    macs: Vec<&'a [u8]>,
    text_macs: Vec<Option<&'a [u8]>>,
}

impl Columns<'_> {
    /// The parameter that has no fixed number.
    pub(in crate::store) fn text_macs(&self) -> &(dyn ToSql + Sync) {
        &self.text_macs
    }

    /// In the order of [`ROW_PARAMETERS`].
    pub(in crate::store) fn parameters(&self) -> [&(dyn ToSql + Sync); ROW_PARAMETERS.len()] {
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

/// Any time in microseconds since 1970. The verifier must be able to read rows that were tampered with.
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
