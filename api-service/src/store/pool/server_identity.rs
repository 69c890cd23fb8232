//! Which PostgreSQL server answers. Another one, or the same one after a restart, may lack what its predecessor had said was
//! committed; more connections to the same one lack nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio_postgres::{Client, Error, SimpleQueryMessage};

/// When it started, on which cluster, in which timeline.
const IDENTITY_QUERY: &str = "select concat_ws(' ', pg_postmaster_start_time(), system_identifier,
    case when pg_is_in_recovery() then 'standby' else left(pg_walfile_name(pg_current_wal_lsn()), 8) end)
    from pg_control_system()";
/// Where the server does not let the service ask for all of that.
const START_TIME_QUERY: &str = "select pg_postmaster_start_time()::text";

/// What is known of the server, from each new connection.
#[derive(Default)]
pub(in crate::store) struct ServerIdentity {
    /// How often it was another one.
    generation: AtomicU64,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    identity: Option<String>,
    since: Option<Instant>,
}

impl ServerIdentity {
    /// Which server it is, counted from the first: changes when it is another one, or the same one started anew.
    pub(in crate::store) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether something is older than what is known of the server now.
    pub(in crate::store) fn is_older(&self, created: Instant) -> bool {
        self.known.lock().since.is_some_and(|since| created < since)
    }

    /// Asks a new connection.
    pub(in crate::store) async fn identify(&self, client: &Client) -> Result<(), Error> {
        let identity = match query_text(client, IDENTITY_QUERY).await {
            Err(error) if error.as_db_error().is_some() => query_text(client, START_TIME_QUERY).await?,
            done => done?,
        };
        self.update(identity);
        Ok(())
    }

    fn update(&self, identity: Option<String>) {
        let mut known = self.known.lock();
        if known.identity == identity {
            return;
        }
        let is_first = known.identity.is_none();
        *known = Known { identity, since: (!is_first).then(Instant::now) };
        if !is_first {
            self.generation.fetch_add(1, Ordering::AcqRel);
            tracing::warn!(
                "PostgreSQL is another server, or has restarted: connections and audit chains are made anew"
            );
        }
    }
}

async fn query_text(client: &Client, query: &str) -> Result<Option<String>, Error> {
    let answer = client.simple_query(query).await?;
    Ok(answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_connections_to_the_same_server_change_nothing_and_another_server_does() {
        let server = ServerIdentity::default();
        let first = Instant::now();
        for _ in 0..3 {
            server.update(Some("started at noon".to_owned()));
        }
        assert_eq!(server.generation(), 0);
        assert!(!server.is_older(first));
        server.update(Some("started at one".to_owned()));
        assert_eq!(server.generation(), 1);
        assert!(server.is_older(first), "a connection from before leads to the server of before");
        assert!(!server.is_older(Instant::now()));
    }
}
