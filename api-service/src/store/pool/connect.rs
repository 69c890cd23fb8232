//! How connections to PostgreSQL are made: what `sslmode` of the URL says about TLS, read as libpq reads it, except that
//! TLS always means a server that has proven its name.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Connect;
use shared::env::Secret;
use shared::tls;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Error, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::session;
use crate::store::StoreError;
use crate::store::pool::server_identity::ServerIdentity;
use crate::store::settings::DatabaseConfig;

/// How long a command waits for the server to connect and to finish its handshake.
const COMMAND_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may be silent before the kernel asks whether the server is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);

/// Makes connections, for the pool and for migrations.
#[derive(Clone)]
pub(in crate::store) enum Connector {
    /// `disable`.
    Plain,
    /// `prefer`, and when the URL says nothing: without TLS when the server has none, or cannot prove its name to us.
    Preferred(MakeRustlsConnect),
    /// `require`, `verify-ca`, `verify-full`, and whenever authorities are named: with TLS, or not at all.
    Required(MakeRustlsConnect),
}

type Connected = Result<(Client, JoinHandle<()>), Error>;

impl Connector {
    /// What a URL asks for.
    ///
    /// # Errors
    /// When it is not one of PostgreSQL, contradicts itself, or wants TLS where nobody vouches for servers.
    pub(in crate::store) fn new(config: &DatabaseConfig) -> Result<(Config, Self), StoreError> {
        let mut postgres: Config = normalize_sslmode(config.url.expose()).parse().map_err(StoreError::internal)?;
        let wanted = match (postgres.get_ssl_mode(), &config.ca) {
            (SslMode::Disable, Some(_)) => {
                return Err(StoreError::internal("DATABASE_CA_FILE is of no use with sslmode=disable"));
            }
            (SslMode::Prefer, Some(_)) => SslMode::Require,
            (mode, _) => mode,
        };
        postgres.ssl_mode(wanted);
        let tls = || Ok::<_, tls::NoAuthority>(MakeRustlsConnect::new(tls::client_config(config.ca.as_ref())?));
        let connector = match wanted {
            SslMode::Disable => Self::Plain,
            // Whom nobody can vouch for is not preferred.
            SslMode::Prefer => tls().map_or(Self::Plain, Self::Preferred),
            _ => Self::Required(tls().map_err(StoreError::internal)?),
        };
        Ok((postgres, connector))
    }

    /// A connection of its own for a command, which may take its time once it is connected.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Unavailable`] also when the server does not answer in time.
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
        match timeout(COMMAND_CONNECT_TIMEOUT, self.open(postgres)).await {
            Ok(opened) => Ok(opened?),
            Err(_) => {
                let seconds = COMMAND_CONNECT_TIMEOUT.as_secs();
                Err(StoreError::Unavailable(format!("no answer to a new connection within {seconds} s").into()))
            }
        }
    }

    /// The same, telling `server` of each connection.
    pub(in crate::store) fn identifying(self, server: Arc<ServerIdentity>) -> IdentifyingConnector {
        IdentifyingConnector { connector: self, server }
    }

    async fn open(self, postgres: Config) -> Connected {
        match self {
            Self::Plain => connect(&postgres, NoTls).await,
            Self::Required(tls) => connect(&postgres, tls).await,
            Self::Preferred(tls) => match connect(&postgres, tls).await {
                Err(error) if tls::is_refusal(&error) => {
                    tracing::debug!(%error, "PostgreSQL cannot prove its name; without sslmode=require that is no obstacle");
                    let mut plain = postgres;
                    plain.ssl_mode(SslMode::Disable);
                    connect(&plain, NoTls).await
                }
                done => done,
            },
        }
    }
}

/// Makes connections for a pool.
pub(in crate::store) struct IdentifyingConnector {
    connector: Connector,
    server: Arc<ServerIdentity>,
}

impl Connect for IdentifyingConnector {
    fn connect(&self, postgres: &Config) -> Pin<Box<dyn Future<Output = Connected> + Send + '_>> {
        let opening = self.connector.clone().open(postgres.clone());
        Box::pin(async move {
            let (client, driving) = opening.await?;
            self.server.identify(&client).await?;
            Ok((client, driving))
        })
    }
}

async fn connect<T>(postgres: &Config, tls: T) -> Connected
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, connection) = postgres.connect(tls).await?;
    let driving = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::warn!(%error, "a connection to PostgreSQL has ended");
        }
    });
    Ok((client, driving))
}

/// Whether a URL is one of PostgreSQL that names where to connect to.
///
/// # Errors
/// What is wrong with it, without showing it.
pub(in crate::store) fn check_url(url: &Secret) -> Result<(), String> {
    // What the driver says of a text that it cannot read may quote it.
    let config: Config =
        normalize_sslmode(url.expose()).parse().map_err(|_| "is not a URL of PostgreSQL".to_owned())?;
    match config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        true => Err("names no host".to_owned()),
        false => Ok(()),
    }
}

/// The driver knows no `verify-ca` and no `verify-full`; with us `require` does as much.
fn normalize_sslmode(url: &str) -> String {
    let (place, parameters) = match url.split_once("://") {
        // Only behind the last question mark: a password may hold anything before it.
        Some(_) => url.rsplit_once('?').unwrap_or((url, "")),
        None => ("", url),
    };
    let rewrite = |parameters: &str| {
        ["verify-full", "verify-ca"]
            .iter()
            .fold(parameters.to_owned(), |text, mode| text.replace(&format!("sslmode={mode}"), "sslmode=require"))
    };
    match (place, parameters) {
        (place, "") => place.to_owned(),
        ("", parameters) => rewrite(parameters),
        (place, parameters) => format!("{place}?{}", rewrite(parameters)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::settings::PoolSizes;

    fn connector(url: &str) -> Result<(Config, Connector), StoreError> {
        let url: Result<Secret, _> = url.parse();
        Connector::new(&DatabaseConfig { url: url.unwrap(), ca: None, pool: PoolSizes::default() })
    }

    #[test]
    fn every_mode_of_libpq_that_verifies_is_tls_or_nothing() {
        for url in [
            "postgres://u:p@h/d?sslmode=require",
            "postgres://u:sslmode=x@h/d?connect_timeout=3&sslmode=verify-full",
            "postgres://h/d?sslmode=verify-ca&connect_timeout=3",
            "host=h dbname=d sslmode=verify-full",
        ] {
            // A machine without authorities refuses, which is as good.
            match connector(url) {
                Ok((config, connector)) => {
                    assert_eq!(config.get_ssl_mode(), SslMode::Require, "{url}");
                    assert!(matches!(connector, Connector::Required(_)), "{url}");
                }
                Err(error) => assert!(error.to_string().contains("authority"), "{error}"),
            }
        }
    }

    #[test]
    fn what_is_no_url_of_postgresql_is_refused_and_not_shown() {
        let check = |url: &str| check_url(&url.parse().unwrap_or_else(|never| match never {}));
        for good in ["postgres://u:p@h:5432/d", "postgresql://h/d?sslmode=verify-full", "host=h dbname=d"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "hunter2",
            "mysql://hunter2@h/d",
            "postgres://u:hunter2@h:port/d",
            "postgres://h/d?sslmode=hunter2",
            "postgres:///d",
            "h:5432/d",
        ] {
            let why = check(bad).unwrap_err();
            assert!(!why.contains("hunter2"), "{bad}: {why}");
        }
    }

    #[test]
    fn nothing_is_encrypted_when_that_is_asked_for_and_nonsense_is_refused() {
        assert!(matches!(connector("postgres://h/d?sslmode=disable"), Ok((_, Connector::Plain))));
        assert!(connector("postgres://h/d?sslmode=never").is_err());
        assert_eq!(connector("postgres://h/d").map(|(config, _)| config.get_ssl_mode()).unwrap(), SslMode::Prefer);
    }
}
