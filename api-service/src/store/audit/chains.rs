//! The audit chains that this process extends.
//!
//! A chain stays in the database as long as the trail, so a new one is opened only if no other can be used:
//!
//! - After a failed transaction it is unknown whether its rows were written. The chain becomes *doubtful*. Before a new chain is
//!   opened, a doubtful one is read again and reused if it still ends where it did.
//! - A chain that a dead process opened and left empty is adopted as an *orphan*.
//!
//! Two processes that adopt the same chain cannot both extend it: each position in a chain exists once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool_postgres::Object;
use parking_lot::Mutex;
use tokio_postgres::types::ToSql;

use super::rows::Micros;
use crate::audit::anchors;
use crate::audit::chain::Head;
use crate::audit::key::AuditKey;
use crate::model::message::now;
use crate::store::StoreError;
use crate::store::pool::server_identity::ServerIdentity;

/// How long a chain is extended after it was opened. Ended chains can be archived as a whole.
const CHAIN_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How long a process keeps an empty chain. After twice this time others may adopt it.
const EMPTY_CHAIN_LIFETIME: Duration = Duration::from_secs(3600);
/// Doubtful chains that are kept.
const DOUBTFUL_CAPACITY: usize = 64;
/// Attempts to open a chain when other processes are faster.
const MAX_ATTEMPTS: usize = 100;

/// An empty chain that was opened hours ago and has half of its lifetime left, among the latest chains.
const FIND_ORPHAN: &str = "select id, opened_at, seal, extract(epoch from clock_timestamp() - opened_at)::bigint as age
    from audit_chains
    where id > (select max(id) from audit_chains) - 1000 and n = 0 and key_id = $1
      and opened_at between clock_timestamp() - interval '12 hours' and clock_timestamp() - interval '2 hours'
    order by random() limit 1";

/// The chains that this process extends.
pub(in crate::store) struct Chains {
    pub(in crate::store) key: AuditKey,
    free: Mutex<Vec<Chain>>,
    doubtful: Mutex<VecDeque<Chain>>,
    server: Arc<ServerIdentity>,
}

/// A chain up to its last confirmed row.
pub(in crate::store) struct Chain {
    pub(in crate::store) head: Head,
    opened: Instant,
    /// [`ServerIdentity::generation`] when it was opened. After a failover or restart, confirmed rows may be lost, so no chain
    /// continues on another server.
    generation: u64,
    /// Position that was last logged as an anchor.
    logged: i64,
}

/// A chain that is dropped logs a last anchor.
impl Drop for Chain {
    fn drop(&mut self) {
        self.log_end();
    }
}

impl Chain {
    /// Logs the end as an anchor, if it has changed.
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

    /// Takes a chain out. `client` must be outside of a transaction, because a chain may have to be opened.
    pub(super) async fn take(&self, client: &Object) -> Result<Chain, StoreError> {
        let generation = self.server.generation();
        let free = {
            let mut free = self.free.lock();
            free.retain(|chain| chain.is_usable(generation));
            free.pop()
        };
        if let Some(chain) = free {
            return Ok(chain);
        }
        if let Some(chain) = self.recover_doubtful(client, generation).await? {
            return Ok(chain);
        }
        let (head, opened) = match self.adopt_orphan(client).await? {
            Some(orphan) => orphan,
            None => (self.open(client).await?, Instant::now()),
        };
        Ok(Chain { head, opened, generation, logged: 0 })
    }

    /// Returns a chain after its transaction.
    pub(in crate::store) fn release(&self, chain: Chain) {
        self.free.lock().push(chain);
    }

    /// Keeps a chain whose last transaction has an unknown outcome.
    pub(in crate::store) fn mark_doubtful(&self, chain: Chain) {
        let mut doubtful = self.doubtful.lock();
        if doubtful.len() < DOUBTFUL_CAPACITY {
            doubtful.push_back(chain);
        }
    }

    /// Logs the ends of all free chains that have changed.
    pub(in crate::store) fn log_anchors(&self) {
        self.free.lock().iter_mut().for_each(Chain::log_end);
    }

    /// Finds a doubtful chain that still ends where it did.
    async fn recover_doubtful(&self, client: &Object, generation: u64) -> Result<Option<Chain>, StoreError> {
        let chain = {
            let mut doubtful = self.doubtful.lock();
            doubtful.retain(|chain| chain.is_usable(generation));
            doubtful.pop_front()
        };
        let Some(chain) = chain else { return Ok(None) };
        // A transaction that still runs holds the row.
        let look = "select n from audit_chains where id = $1 for no key update skip locked";
        let statement = client.prepare_cached(look).await?;
        match client.query_opt(&statement, &[&chain.head.chain]).await? {
            Some(row) if row.try_get::<_, i64>(0)? == chain.head.n => Ok(Some(chain)),
            // The rows were written, so the chain ends here.
            Some(_) => Ok(None),
            None => {
                self.mark_doubtful(chain);
                Ok(None)
            }
        }
    }

    /// Adopts an empty chain of a dead process. Its lifetime counts from its opening.
    async fn adopt_orphan(&self, client: &Object) -> Result<Option<(Head, Instant)>, StoreError> {
        let statement = client.prepare_cached(FIND_ORPHAN).await?;
        let Some(row) = client.query_opt(&statement, &[&self.key.id()]).await? else { return Ok(None) };
        let Micros(opened_at) = row.try_get("opened_at")?;
        let head = Head::new(row.try_get("id")?, opened_at);
        let age = Duration::from_secs(row.try_get::<_, i64>("age")?.unsigned_abs());
        // A chain with an invalid seal is left to the verifier.
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
                // Another process took this number.
                Err(StoreError::Contended(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::internal("no chain could be opened"))
    }
}
