//! Identifies the PostgreSQL server. After a failover or restart, transactions that were confirmed may be lost; more connections
//! to the same server lose nothing.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_postgres::{Client, Error, SimpleQueryMessage};

/// Start time, cluster id, and timeline or standby.
const IDENTITY_QUERY: &str = "select concat_ws(' ', pg_postmaster_start_time(), system_identifier,
    case when pg_is_in_recovery() then 'standby' else left(pg_walfile_name(pg_current_wal_lsn()), 8) end), system_identifier
    from pg_control_system()";
/// Fallback where the service may not read all of that.
const START_TIME_QUERY: &str = "select pg_postmaster_start_time()::text";

/// Between two times that a server counts as demoted.
const MIN_DEMOTION_INTERVAL: Duration = Duration::from_secs(1);

/// The server, as each new connection identified it.
#[derive(Default)]
pub(in crate::store) struct ServerIdentity {
    /// How often the server changed.
    generation: AtomicU64,
    /// How often a commit ended its wait for a synchronous standby early.
    doubtful_commits: AtomicU64,
    /// Where it is among the servers of the URL.
    pub(super) preferred_host: AtomicUsize,
    known: Mutex<KnownServer>,
}

#[derive(Default)]
struct KnownServer {
    identity: Option<String>,
    /// Common to a primary and its replicas. `None` where the service may not read it.
    cluster: Option<String>,
    since: Option<Instant>,
}

impl ServerIdentity {
    /// A number that changes when the server changes or restarts.
    pub(in crate::store) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether a connection was created before the last change.
    pub(in crate::store) fn is_older(&self, created: Instant) -> bool {
        self.known.lock().since.is_some_and(|since| created < since)
    }

    /// Records that a commit ended its wait for a synchronous standby early: a failover may lose it.
    pub(super) fn doubt_commits(&self) {
        self.doubtful_commits.fetch_add(1, Ordering::AcqRel);
    }

    /// A number that changes before the reply of such a commit is read.
    pub(in crate::store) fn doubtful_commits(&self) -> u64 {
        self.doubtful_commits.load(Ordering::Acquire)
    }

    /// The server has become read-only: all its connections are to be closed, and no audit chain continues.
    pub(in crate::store) fn demoted(&self) {
        let mut known = self.known.lock();
        // New connections may lead to the same server again and again.
        if known.since.is_none_or(|since| since.elapsed() >= MIN_DEMOTION_INTERVAL) {
            known.since = Some(Instant::now());
            self.generation.fetch_add(1, Ordering::AcqRel);
            tracing::warn!("PostgreSQL server has become read-only, connections and audit chains are replaced");
        }
    }

    /// The system identifier of the server's cluster, if it is known.
    pub(in crate::store) fn cluster(&self) -> Option<String> {
        self.known.lock().cluster.clone()
    }

    /// Identifies the server of a new connection.
    pub(in crate::store) async fn identify(&self, client: &Client) -> Result<(), Error> {
        let [identity, cluster] = match query_texts(client, IDENTITY_QUERY).await {
            Err(error) if error.as_db_error().is_some() => query_texts(client, START_TIME_QUERY).await?,
            done => done?,
        };
        self.update(identity, cluster);
        Ok(())
    }

    fn update(&self, identity: Option<String>, cluster: Option<String>) {
        let mut known = self.known.lock();
        if known.identity == identity {
            return;
        }
        let is_first = known.identity.is_none();
        *known = KnownServer { identity, cluster, since: (!is_first).then(Instant::now) };
        if !is_first {
            self.generation.fetch_add(1, Ordering::AcqRel);
            tracing::warn!("PostgreSQL server changed, connections and audit chains are replaced");
        }
    }
}

/// The first two columns of the first row, as far as there are so many.
async fn query_texts(client: &Client, query: &str) -> Result<[Option<String>; 2], Error> {
    let answer = client.simple_query(query).await?;
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    Ok([0, 1].map(|column| row.filter(|row| column < row.len())?.get(column).map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_changes_only_with_server() {
        let server = ServerIdentity::default();
        let first = Instant::now();
        for _ in 0..3 {
            server.update(Some("started at noon".to_owned()), Some("7".to_owned()));
        }
        assert_eq!((server.generation(), server.cluster()), (0, Some("7".to_owned())));
        assert!(!server.is_older(first));
        server.update(Some("started at one".to_owned()), None);
        assert_eq!((server.generation(), server.cluster()), (1, None));
        assert!(server.is_older(first), "a connection from before leads to the server of before");
        assert!(!server.is_older(Instant::now()));
    }

    #[test]
    fn demotion_replaces_connections_once_per_second() {
        let server = ServerIdentity::default();
        let opened = Instant::now();
        server.demoted();
        server.demoted();
        assert_eq!(server.generation(), 1);
        assert!(server.is_older(opened));
    }
}
