//! The chains of the audit trail that this process adds to: which is lent, and which is opened.
//!
//! A chain that was opened stays in the database for as long as the trail does, so none is opened that another could stand for.
//! When a transaction fails, nobody has to know whether it was written: the chain is looked at before the next one is opened, and goes on
//! if it ends where it did. One that a process has opened and left without a row, because it died, is taken over by another.
//! Two that take the same one at the same moment cannot both write in it: its rows have places, and each place is given once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool_postgres::Object;
use parking_lot::Mutex;
use tokio_postgres::types::ToSql;

use super::{Lease, Micros};
use crate::audit::anchors;
use crate::audit::chain::Head;
use crate::audit::key::AuditKey;
use crate::model::message::now;
use crate::store::StoreError;
use crate::store::pool::server_identity::ServerIdentity;

/// How long a chain is added to, from when it was opened. One that has ended can be archived as a whole.
const CHAIN_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How long a process keeps a chain without a row. From twice that on others may take it.
const EMPTY_CHAIN_LIFETIME: Duration = Duration::from_secs(3600);
/// Chains of which nobody knows whether the last transaction was written.
const DOUBTFUL_CAPACITY: usize = 64;
/// How often another process may be faster at opening a chain.
const MAX_ATTEMPTS: usize = 100;

/// A chain that was opened hours ago, with half a day left to live, and has no row. It is looked for among the newest ones.
const FIND_ORPHAN: &str = "select id, opened_at, seal, extract(epoch from clock_timestamp() - opened_at)::bigint as age
    from audit_chains
    where id > (select max(id) from audit_chains) - 1000 and n = 0 and key_id = $1
      and opened_at between clock_timestamp() - interval '12 hours' and clock_timestamp() - interval '2 hours'
    order by random() limit 1";

/// The chains that this process adds to.
pub(in crate::store) struct Chains {
    pub(in crate::store) key: AuditKey,
    free: Mutex<Vec<Chain>>,
    doubtful: Mutex<VecDeque<Chain>>,
    server: Arc<ServerIdentity>,
}

/// A chain, as far as it is known to be written.
pub(in crate::store) struct Chain {
    pub(in crate::store) head: Head,
    opened: Instant,
    /// [`ServerIdentity::generation`] when it was opened. A database that failed over or restarted may have lost what it had said
    /// was committed, so no chain goes on at its successor.
    generation: u64,
    /// Where it ended when that was logged last.
    logged: i64,
}

/// A chain that is given up is logged once more: its last rows would have no anchor.
impl Drop for Chain {
    fn drop(&mut self) {
        self.log_end();
    }
}

impl Chain {
    /// Logs where it ends, if that has changed.
    fn log_end(&mut self) {
        if self.logged < self.head.n {
            let Head { chain: id, n, mac, .. } = self.head;
            tracing::info!(chain = id, n, mac = anchors::hex(&mac), "{}", anchors::LOG_MESSAGE);
            self.logged = n;
        }
    }

    fn is_usable(&self, generation: u64) -> bool {
        let life = if self.head.n > 0 { CHAIN_LIFETIME } else { EMPTY_CHAIN_LIFETIME };
        self.generation == generation && self.opened.elapsed() < life
    }
}

impl Chains {
    pub(in crate::store) fn new(key: AuditKey, server: Arc<ServerIdentity>) -> Arc<Self> {
        Arc::new(Self { key, free: Mutex::default(), doubtful: Mutex::default(), server })
    }

    /// Lends a chain for one transaction. `client` must be outside of one: it may have to open a chain.
    pub(in crate::store) async fn lend(self: &Arc<Self>, client: &Object) -> Result<Lease, StoreError> {
        let generation = self.server.generation();
        let free = {
            let mut free = self.free.lock();
            free.retain(|chain| chain.is_usable(generation));
            free.pop()
        };
        let chain = match free {
            Some(chain) => chain,
            None => match self.recover_doubtful(client, generation).await? {
                Some(chain) => chain,
                None => {
                    let (head, opened) = match self.adopt_orphan(client).await? {
                        Some(orphan) => orphan,
                        None => (self.open(client).await?, Instant::now()),
                    };
                    Chain { head, opened, generation, logged: 0 }
                }
            },
        };
        Ok(Lease::new(self.clone(), chain))
    }

    /// The chain is free for the next transaction.
    pub(in crate::store) fn release(&self, chain: Chain) {
        self.free.lock().push(chain);
    }

    /// Nobody knows whether what was added to the chain is written.
    pub(in crate::store) fn mark_doubtful(&self, chain: Chain) {
        let mut doubtful = self.doubtful.lock();
        if doubtful.len() < DOUBTFUL_CAPACITY {
            doubtful.push_back(chain);
        }
    }

    /// Logs where chains end, as far as that has changed.
    pub(in crate::store) fn log_anchors(&self) {
        self.free.lock().iter_mut().for_each(Chain::log_end);
    }

    /// A chain that was doubtful and has turned out to end where it did before.
    async fn recover_doubtful(&self, client: &Object, generation: u64) -> Result<Option<Chain>, StoreError> {
        let chain = {
            let mut doubtful = self.doubtful.lock();
            doubtful.retain(|chain| chain.is_usable(generation));
            doubtful.pop_front()
        };
        let Some(chain) = chain else { return Ok(None) };
        // Whoever is still at it holds the row.
        let look = "select n from audit_chains where id = $1 for no key update skip locked";
        let statement = client.prepare_cached(look).await?;
        match client.query_opt(&statement, &[&chain.head.chain]).await? {
            Some(row) if row.try_get::<_, i64>(0)? == chain.head.n => Ok(Some(chain)),
            // It was written after all: the chain ends with that.
            Some(_) => Ok(None),
            None => {
                self.mark_doubtful(chain);
                Ok(None)
            }
        }
    }

    /// A chain that somebody has opened, and left without a row. Its life goes on from when it was opened.
    async fn adopt_orphan(&self, client: &Object) -> Result<Option<(Head, Instant)>, StoreError> {
        let statement = client.prepare_cached(FIND_ORPHAN).await?;
        let Some(row) = client.query_opt(&statement, &[&self.key.id()]).await? else { return Ok(None) };
        let Micros(opened_at) = row.try_get("opened_at")?;
        let head = Head::new(row.try_get("id")?, opened_at);
        let age = Duration::from_secs(row.try_get::<_, i64>("age")?.unsigned_abs());
        // One that somebody has tampered with is left to the verifier.
        let is_intact = head.seal(&self.key).as_slice() == row.try_get::<_, &[u8]>("seal")?;
        Ok(Instant::now().checked_sub(age).filter(|_| is_intact).map(|opened| (head, opened)))
    }

    async fn open(&self, client: &Object) -> Result<Head, StoreError> {
        let next = client.prepare_cached("select coalesce(max(id), 0) + 1 from audit_chains").await?;
        let insert = "insert into audit_chains (id, key_id, opened_at, n, seal) values ($1, $2, $3, 0, $4)";
        let insert = client.prepare_cached(insert).await?;
        for _ in 0..MAX_ATTEMPTS {
            let opened_at = i64::try_from(now().unix_timestamp_nanos() / 1_000).map_err(StoreError::internal)?;
            let head = Head::new(client.query_one(&next, &[]).await?.try_get(0)?, opened_at);
            let seal = head.seal(&self.key);
            let row: [&(dyn ToSql + Sync); 4] = [&head.chain, &self.key.id(), &Micros(opened_at), &seal.as_slice()];
            match client.execute(&insert, &row).await.map_err(StoreError::from) {
                Ok(_) => return Ok(head),
                // Another process was faster, and has this number.
                Err(StoreError::Contended(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::internal("no chain could be opened"))
    }
}
