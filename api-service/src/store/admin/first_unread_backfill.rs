//! Finds the first unread message of the conversations from before these columns, beside running services.
//!
//! Messages are searched without a lock first, which takes as long as it takes: what is read stays read. Then the conversation is
//! locked briefly, and a second search begins where the first one ended. A conversation that another session holds is left out: readers
//! search it until its next mark or `migrate`.

use tokio_postgres::Client;
use uuid::Uuid;

use crate::store::StoreError;
use crate::store::first_unread::{first_unread, holds, lower_bound, to_other, to_user};

/// Conversations that one statement looks at.
const WINDOW: i64 = 1_000;
/// Conversations that are locked together.
const MAX_LOCKED: usize = 20;

/// As in the sessions of a service: to compile the statements would take longer than to run them. Their table locks delay no send.
const SESSION: &str = "set jit = off; set enable_seqscan = off; set enable_bitmapscan = off; set lock_timeout = 0";

/// The position in the table `progress`. The row is there while the work is under way.
const POSITION: &str = "select position from progress where name = 'first unread'";
const SET_POSITION: &str = "insert into progress (name, position) values ('first unread', $1)
    on conflict (name) do update set position = excluded.position, at = clock_timestamp()";
const FINISH: &str = "delete from progress where name = 'first unread'";

/// The end of the window of $2 + 1 conversations after $1; no row when fewer are left.
const END: &str = "select id from conversations where id > $1 order by id offset $2 limit 1";

/// The conversations of a window whose first unread message is unknown.
const UNKNOWN: &str = concat!(
    "select c.id from conversations c where c.id > $1 and c.id <= $2 and (
        (c.user_unread > 0 and not (",
    holds!(),
    " and coalesce(c.user_first_unread, 0) > 0)) or (c.other_unread > 0 and not (",
    holds!(),
    " and coalesce(c.other_first_unread, 0) > 0))) order by c.id"
);

const SEARCH: &str = concat!(
    "select c.id, ",
    first_unread!(
        conversation: "c.id", receiver: to_user!(), unread: "c.user_unread", first: "c.user_first_unread",
        bound: concat!("greatest(x.user_bound, ", lower_bound!("c.user_first_unread"), ")"), holds: holds!(), most: "10000"
    ),
    " as user_first_unread, ",
    first_unread!(
        conversation: "c.id", receiver: to_other!(), unread: "c.other_unread", first: "c.other_first_unread",
        bound: concat!("greatest(x.other_bound, ", lower_bound!("c.other_first_unread"), ")"), holds: holds!(), most: "10000"
    ),
    " as other_first_unread, c.last_seq
      from unnest($1::uuid[], $2::bigint[], $3::bigint[]) as x (id, user_bound, other_bound)
      join conversations c on c.id = x.id order by c.id"
);

const LOCK: &str = "select id from conversations where id = any($1::uuid[]) order by id for no key update skip locked";

/// Runs under the lock. What is found behind the bounds is close to them, unless a mark has come between.
const STORE: &str = concat!(
    "update conversations c set user_first_unread = n.user_first_unread, other_first_unread = n.other_first_unread,
        first_unread_reads = c.last_seq - c.user_unread - c.other_unread
     from (select c.id, ",
    first_unread!(
        conversation: "c.id", receiver: to_user!(), unread: "c.user_unread", first: "c.user_first_unread",
        bound: concat!("greatest(x.user_bound, ", lower_bound!("c.user_first_unread"), ")"), holds: holds!(), most: "1000"
    ),
    " as user_first_unread, ",
    first_unread!(
        conversation: "c.id", receiver: to_other!(), unread: "c.other_unread", first: "c.other_first_unread",
        bound: concat!("greatest(x.other_bound, ", lower_bound!("c.other_first_unread"), ")"), holds: holds!(), most: "1000"
    ),
    " as other_first_unread
      from unnest($1::uuid[], $2::bigint[], $3::bigint[]) as x (id, user_bound, other_bound)
      join conversations c on c.id = x.id) n
     where c.id = n.id and c.id = any($4::uuid[])"
);

/// Goes through all conversations in windows, from where an earlier run was interrupted.
pub(super) async fn backfill(client: &mut Client, report: &mut impl FnMut(&str)) -> Result<(), StoreError> {
    let position: Option<Uuid> = client.query_opt(POSITION, &[]).await?.map(|row| row.try_get(0)).transpose()?;
    // Without a position it begins at the first one, also after an earlier run: services of an earlier version may have written since.
    let mut position = position.unwrap_or(Uuid::nil());
    client.batch_execute(SESSION).await?;
    let mut left_out = 0;
    while position < Uuid::max() {
        let end = client.query_opt(END, &[&position, &(WINDOW - 1)]).await?;
        let end: Uuid = end.map(|row| row.try_get(0)).transpose()?.unwrap_or(Uuid::max());
        let rows = client.query(UNKNOWN, &[&position, &end]).await?;
        let ids: Vec<Uuid> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        for ids in ids.chunks(MAX_LOCKED) {
            let bounds = search(client, ids).await?;
            left_out += bounds.ids.len() - store(client, &bounds).await?;
        }
        client.execute(SET_POSITION, &[&end]).await?;
        position = end;
    }
    client.execute(FINISH, &[]).await?;
    if left_out > 0 {
        report(&format!(
            "conversations in use and left out: {left_out}. The next read mark or `migrate` finds their first unread message."
        ));
    }
    Ok(())
}

/// Ids, and per side up to which message all are read.
struct Bounds {
    ids: Vec<Uuid>,
    user: Vec<i64>,
    other: Vec<i64>,
}

/// Searches part by part, until every first unread message is found or the end of its conversation is reached.
async fn search(client: &Client, ids: &[Uuid]) -> Result<Bounds, StoreError> {
    let mut bounds = Bounds { ids: ids.to_vec(), user: vec![0; ids.len()], other: vec![0; ids.len()] };
    loop {
        let rows = client.query(SEARCH, &[&bounds.ids, &bounds.user, &bounds.other]).await?;
        let mut is_done = true;
        bounds = Bounds { ids: Vec::new(), user: Vec::new(), other: Vec::new() };
        for row in &rows {
            let last_seq: i64 = row.try_get(3)?;
            bounds.ids.push(row.try_get(0)?);
            for (column, bound) in [(1, &mut bounds.user), (2, &mut bounds.other)] {
                let found: Option<i64> = row.try_get(column)?;
                // Nothing is unread, so all is read.
                let searched = found.map_or(last_seq, |found| if found > 0 { found - 1 } else { -found });
                is_done &= found.is_none_or(|found| found > 0) || searched >= last_seq;
                bound.push(searched);
            }
        }
        if is_done {
            return Ok(bounds);
        }
    }
}

/// Stores what was found, except for conversations that another session holds. Returns how many it stored.
async fn store(client: &mut Client, Bounds { ids, user, other }: &Bounds) -> Result<usize, StoreError> {
    let transaction = client.transaction().await?;
    let locked = transaction.query(LOCK, &[ids]).await?;
    let locked: Vec<Uuid> = locked.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    transaction.execute(STORE, &[ids, user, other, &locked]).await?;
    transaction.commit().await?;
    Ok(locked.len())
}
