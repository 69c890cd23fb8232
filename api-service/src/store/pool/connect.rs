//! Connects to PostgreSQL. `sslmode` means what it means to libpq, except that TLS always verifies the server's certificate and
//! name. A server that offers TLS and cannot prove its name gets no connection: nothing falls back to plaintext.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deadpool_postgres::Connect;
use shared::kit::env::Secret;
use shared::kit::net::tls::{self, CaFile};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::{LoadBalanceHosts, SslMode};
use tokio_postgres::error::{DbError, Severity, SqlState};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Client, Config, Error, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{hosts, session};
use crate::store::pool::server_identity::ServerIdentity;
use crate::store::{StoreError, database_url};

/// Time limit for a command's connection, with its handshake.
const COMMAND_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle time before TCP keepalive probes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);

/// Connects, for pools, migrations and commands.
#[derive(Clone)]
pub(in crate::store) enum Connector {
    /// `disable`.
    Plain,
    /// TLS as the mode of the [`Config`] says. `prefer`, also the default: no TLS only when the server has none.
    /// `require`, `verify-ca`, `verify-full`, or with a CA bundle: TLS or nothing.
    Tls(MakeRustlsConnect),
}

type Connected = Result<(Client, JoinHandle<()>), Error>;

impl Connector {
    /// From a URL, and the CA bundle that verifies the server instead of the system's.
    ///
    /// # Errors
    /// When it is no URL of PostgreSQL, or needs TLS without any certificate authority.
    pub(in crate::store) fn new(url: &Secret, ca: Option<&CaFile>) -> Result<(Config, Self), StoreError> {
        let mut postgres = database_url::parse(url).map_err(StoreError::internal)?;
        let wanted = match (postgres.get_ssl_mode(), ca) {
            (SslMode::Prefer, Some(_)) => SslMode::Require,
            (mode, _) => mode,
        };
        postgres.ssl_mode(wanted);
        let tls = || Ok::<_, tls::CaError>(MakeRustlsConnect::new(tls::client_config(ca)?));
        let connector = match wanted {
            SslMode::Disable => Self::Plain,
            // Without certificate authorities, `prefer` means no TLS: no server could prove its name.
            SslMode::Prefer => tls().map_or(Self::Plain, Self::Tls),
            _ => Self::Tls(tls().map_err(StoreError::internal)?),
        };
        Ok((postgres, connector))
    }

    /// Opens a connection for a command, whose statements have no time limit.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Unavailable`] also on timeout.
    pub(in crate::store) async fn open_for_command(
        self,
        mut postgres: Config,
        name: &str,
    ) -> Result<(Client, JoinHandle<()>), StoreError> {
        let options = session::command_options(postgres.get_options());
        postgres
            .application_name(name)
            .connect_timeout(COMMAND_CONNECT_TIMEOUT)
            .keepalives_idle(KEEPALIVE_IDLE)
            .options(options);
        match timeout(COMMAND_CONNECT_TIMEOUT, self.open(postgres, Arc::default())).await {
            Ok(opened) => Ok(opened?),
            Err(_) => {
                let seconds = COMMAND_CONNECT_TIMEOUT.as_secs();
                Err(StoreError::Unavailable(format!("no answer to a new connection within {seconds} s").into()))
            }
        }
    }

    /// Identifies the server of each new connection.
    pub(in crate::store) fn identifying(self, server: Arc<ServerIdentity>) -> IdentifyingConnector {
        IdentifyingConnector { connector: self, server }
    }

    /// Opens a connection to the first server of the URL that fits.
    async fn open(self, postgres: Config, server: Arc<ServerIdentity>) -> Connected {
        let identity = server.clone();
        let open_one = move |postgres| self.clone().open_one(postgres, identity.clone());
        hosts::connect_any(postgres, &server.preferred_host, open_one).await
    }

    async fn open_one(self, postgres: Config, server: Arc<ServerIdentity>) -> Connected {
        match self {
            Self::Plain => connect(&postgres, NoTls, server).await,
            Self::Tls(tls) => connect(&postgres, tls, server).await,
        }
    }
}

/// Connects for a pool, and identifies the server.
pub(in crate::store) struct IdentifyingConnector {
    connector: Connector,
    server: Arc<ServerIdentity>,
}

impl Connect for IdentifyingConnector {
    fn connect(&self, postgres: &Config) -> Pin<Box<dyn Future<Output = Connected> + Send + '_>> {
        let opening = self.connector.clone().open(postgres.clone(), self.server.clone());
        Box::pin(async move {
            let (client, driving) = opening.await?;
            self.server.identify(&client).await?;
            Ok((client, driving))
        })
    }
}

/// Connects for the pool of the replicas, which are not identified: each connection may lead to another one.
pub(in crate::store) struct ReplicaConnector {
    connector: Connector,
    /// Holds the replica that answered last.
    servers: Arc<ServerIdentity>,
    opened: AtomicUsize,
}

impl ReplicaConnector {
    pub(in crate::store) fn new(connector: Connector) -> Self {
        Self { connector, servers: Arc::default(), opened: AtomicUsize::new(0) }
    }
}

impl Connect for ReplicaConnector {
    fn connect(&self, postgres: &Config) -> Pin<Box<dyn Future<Output = Connected> + Send + '_>> {
        if postgres.get_load_balance_hosts() == LoadBalanceHosts::Random {
            // Evenly, which is better than at random.
            let count = postgres.get_hosts().len().max(postgres.get_hostaddrs().len()).max(1);
            let opened = self.opened.fetch_add(1, Ordering::Relaxed);
            self.servers.preferred_host.store(opened % count, Ordering::Relaxed);
        }
        Box::pin(self.connector.clone().open(postgres.clone(), self.servers.clone()))
    }
}

async fn connect<T>(postgres: &Config, tls: T, server: Arc<ServerIdentity>) -> Connected
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, mut connection) = postgres.connect(tls).await?;
    let driving = tokio::spawn(async move {
        loop {
            match poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notice(notice))) if is_doubtful_commit(&notice) => {
                    server.doubt_commits();
                    tracing::warn!("a commit no longer waits for its synchronous standby, so its caller gets an error");
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    tracing::warn!(%error, "PostgreSQL connection ended");
                    return;
                }
                None => return,
            }
        }
    });
    Ok((client, driving))
}

/// Whether PostgreSQL says that a commit may be missing on its synchronous standby. It says so in a warning of the general class
/// alone, when a wait is cancelled (`pg_cancel_backend`), and reports success after it. Statements of this service cause no other
/// warning of this class.
fn is_doubtful_commit(notice: &DbError) -> bool {
    notice.code() == &SqlState::WARNING && notice.parsed_severity() == Some(Severity::Warning)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connector(url: &str) -> Result<(Config, Connector), StoreError> {
        let url: Result<Secret, _> = url.parse();
        Connector::new(&url.unwrap(), None)
    }

    #[test]
    fn verifying_sslmodes_require_tls() {
        for url in [
            "postgres://u:p@h/d?sslmode=require",
            "postgres://u:sslmode=x@h/d?connect_timeout=3&sslmode=verify-full",
            "postgres://h/d?sslmode=verify-ca&connect_timeout=3",
            "host=h dbname=d sslmode=verify-full",
        ] {
            // A machine without certificate authorities rejects, which is correct too.
            match connector(url) {
                Ok((config, connector)) => {
                    assert_eq!(config.get_ssl_mode(), SslMode::Require, "{url}");
                    assert!(matches!(connector, Connector::Tls(_)), "{url}");
                }
                Err(error) => assert!(error.to_string().contains("authority"), "{error}"),
            }
        }
    }

    #[test]
    fn connections_are_spread_over_replicas() {
        let (postgres, connector) =
            connector("postgres://127.0.0.1:1,127.0.0.1:2/d?load_balance_hosts=random").unwrap();
        let replicas = ReplicaConnector::new(connector);
        let first = [(); 3].map(|()| {
            drop(replicas.connect(&postgres));
            replicas.servers.preferred_host.load(Ordering::Relaxed)
        });
        assert_eq!(first, [0, 1, 0]);
    }

    #[test]
    fn sslmode_disable_is_plain_and_unknown_is_rejected() {
        assert!(matches!(connector("postgres://h/d?sslmode=disable"), Ok((_, Connector::Plain))));
        assert!(connector("postgres://h/d?sslmode=never").is_err());
        assert_eq!(connector("postgres://h/d").map(|(config, _)| config.get_ssl_mode()).unwrap(), SslMode::Prefer);
    }
}
