//! Settings of PostgreSQL, and the share of connections of each class of work.

use shared::kit::env::{Env, Secret, Setting};
use shared::kit::net::plaintext_links::PlaintextLinks;
use shared::kit::net::tls::CaFile;
use tokio_postgres::config::SslMode;

use super::database_url;

pub(crate) const DATABASE_URL: Setting = Setting {
    name: "DATABASE_URL",
    default: None,
    help: "PostgreSQL 14 or newer: postgres://user:password@host:port/database[?sslmode=verify-full]; with TLS, \
           which production requires, the server must prove its name",
};
pub(crate) const DATABASE_CA_FILE: Setting = Setting {
    name: "DATABASE_CA_FILE",
    default: Some(""),
    help: "PEM file of the certificate authorities trusted for PostgreSQL, in place of the system's; makes TLS required",
};
pub(crate) const DATABASE_POOL_SIZE: Setting = Setting {
    name: "DATABASE_POOL_SIZE",
    default: Some("16"),
    help: "connections to PostgreSQL in all, 8 to 1000; what the next two, two for sends and two for readiness and revocations leave is for reads",
};
pub(crate) const DATABASE_WRITE_CONNECTIONS: Setting = Setting {
    name: "DATABASE_WRITE_CONNECTIONS",
    default: Some(""),
    help: "of these for marks, revocations and the audit trail; a quarter when it is not set",
};
pub(crate) const DATABASE_BACKGROUND_CONNECTIONS: Setting = Setting {
    name: "DATABASE_BACKGROUND_CONNECTIONS",
    default: Some(""),
    help: "of these for the outbox and the gateways' streams, 2 or more; a quarter when it is not set",
};

pub(crate) const DATABASE_READ_URL: Setting = Setting {
    name: "DATABASE_READ_URL",
    default: Some(""),
    help: "a streaming replica of DATABASE_URL's server that answers histories and inboxes as far as it is up to date; as many \
           connections as reads have to the primary",
};

pub(crate) const DATABASE_SERVICE_ROLE: Setting = Setting {
    name: "DATABASE_SERVICE_ROLE",
    default: Some(""),
    help: "for `migrate`: the role that the service will use, which is granted what it needs and nothing else",
};

/// How to reach PostgreSQL.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// The URL; it may contain a password.
    pub url: Secret,
    /// CA bundle that verifies the certificate, instead of the system's.
    pub ca: Option<CaFile>,
    /// Connections per class.
    pub pool: PoolSizes,
}

/// How to reach a replica.
#[derive(Debug, Clone)]
pub struct ReplicaConfig {
    /// The URL; it may contain a password.
    pub url: Secret,
    /// CA bundle that verifies the certificate, instead of the system's.
    pub ca: Option<CaFile>,
    /// Maximum connections.
    pub connections: usize,
}

/// Maximum connections per class of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSizes {
    /// All classes together.
    pub total: usize,
    /// Marks, revocations and the audit trail.
    pub write: usize,
    /// The outbox, the gateways' streams and operator commands.
    pub background: usize,
}

impl PoolSizes {
    /// Health checks of the database, and reads of revocations.
    pub const WATCH: usize = 2;
    /// One for batches of sends, one for checks of locked conversations.
    pub const SEND: usize = 2;
    /// The outbox may need a second connection while it holds one.
    const MIN_BACKGROUND: usize = 2;
    /// One of each class, and the minimum of the background.
    const MIN_TOTAL: usize = 2 + Self::WATCH + Self::SEND + Self::MIN_BACKGROUND;

    /// The default shares of a total.
    fn from_total(total: usize) -> Self {
        let background = (total / 4).max(Self::MIN_BACKGROUND);
        let left = total.saturating_sub(background + Self::WATCH + Self::SEND + 1);
        Self { total, write: (total / 4).min(left).max(1), background }
    }

    /// Reads get what the other classes leave.
    #[must_use]
    pub fn read(&self) -> usize {
        self.total.saturating_sub(self.write + self.background + Self::WATCH + Self::SEND)
    }
}

impl Default for PoolSizes {
    fn default() -> Self {
        Self::from_total(16)
    }
}

/// A role name that needs no escaping inside quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role(String);

impl Role {
    /// The name.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Role {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_name = (1..=63).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'@'));
        if is_name { Ok(Self(text.to_owned())) } else { Err("is not the name of a role: letters, digits, _ - . @") }
    }
}

pub(crate) fn read_database(env: &mut Env) -> Option<DatabaseConfig> {
    let plaintext = PlaintextLinks::read(env);
    let url = env.read_checked(&DATABASE_URL, database_url::check);
    let ca = env.read_optional(&DATABASE_CA_FILE);
    let total = env.read_number(&DATABASE_POOL_SIZE, PoolSizes::MIN_TOTAL..=1_000);
    let write = env.read_optional::<usize>(&DATABASE_WRITE_CONNECTIONS);
    let background = env.read_optional::<usize>(&DATABASE_BACKGROUND_CONNECTIONS);
    if let (Some(url), Some(ca)) = (&url, &ca) {
        check_link(env, plaintext, &DATABASE_URL, url, ca.as_ref());
    }
    let defaults = PoolSizes::from_total(total?);
    let pool = PoolSizes {
        write: write?.unwrap_or(defaults.write),
        background: background?.unwrap_or(defaults.background),
        ..defaults
    };
    if pool.write == 0 {
        env.add_error(&DATABASE_WRITE_CONNECTIONS, "must be 1 or more");
    }
    if pool.background < PoolSizes::MIN_BACKGROUND {
        env.add_error(&DATABASE_BACKGROUND_CONNECTIONS, "must be 2 or more");
    }
    if pool.read() == 0 {
        env.add_error(&DATABASE_POOL_SIZE, "leaves no connection for reads, beside the other classes");
    }
    let is_good = pool.write > 0 && pool.background >= PoolSizes::MIN_BACKGROUND && pool.read() > 0;
    Some(DatabaseConfig { url: url?, ca: ca?, pool: is_good.then_some(pool)? })
}

/// Reads `DATABASE_READ_URL`; `Some(None)` when it is not set. `database` is what [`read_database`] returned.
pub(crate) fn read_replica(env: &mut Env, database: Option<&DatabaseConfig>) -> Option<Option<ReplicaConfig>> {
    let plaintext = PlaintextLinks::read(env);
    let Some(url) = env.read_optional::<Secret>(&DATABASE_READ_URL)? else { return Some(None) };
    if let Err(defect) = database_url::check(&url) {
        env.add_error(&DATABASE_READ_URL, &defect);
        return None;
    }
    let DatabaseConfig { ca, pool, .. } = database?;
    check_link(env, plaintext, &DATABASE_READ_URL, &url, ca.as_ref());
    Some(Some(ReplicaConfig { url, ca: ca.clone(), connections: pool.read() }))
}

fn check_link(env: &mut Env, plaintext: PlaintextLinks, setting: &Setting, url: &Secret, ca: Option<&CaFile>) {
    let Some(link) = database_url::link(url) else { return };
    match (link.mode, ca) {
        (SslMode::Disable, Some(_)) => {
            env.add_error(&DATABASE_CA_FILE, &format!("is of no use while {} has sslmode=disable", setting.name));
        }
        // `prefer` gives an attacker in between the choice.
        (SslMode::Disable | SslMode::Prefer, None) if !link.is_local => {
            plaintext.report(env, setting, "add sslmode=verify-full");
        }
        // A CA bundle makes TLS required.
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sizes: [&'static str; 3]) -> Result<PoolSizes, String> {
        let mut env = Env::from_fn(move |name| match name {
            "DATABASE_URL" => Some("postgres://localhost/chat".to_owned()),
            "DATABASE_POOL_SIZE" => Some(sizes[0].to_owned()),
            "DATABASE_WRITE_CONNECTIONS" => Some(sizes[1].to_owned()),
            "DATABASE_BACKGROUND_CONNECTIONS" => Some(sizes[2].to_owned()),
            _ => None,
        });
        let database = read_database(&mut env);
        database.map(|database| database.pool).ok_or_else(|| env.into_error().to_string())
    }

    #[test]
    fn classes_share_all_connections() {
        for total in 8..=1_000 {
            let sizes = PoolSizes::from_total(total);
            assert!(sizes.write >= 1 && sizes.background >= 2 && sizes.read() >= 1, "{sizes:?}");
            assert_eq!(sizes.write + sizes.background + sizes.read() + PoolSizes::WATCH + PoolSizes::SEND, total);
        }
        assert_eq!(read(["16", "", ""]), Ok(PoolSizes { total: 16, write: 4, background: 4 }));
        assert_eq!(read(["40", "4", "6"]).map(|sizes| sizes.read()), Ok(26));
    }

    #[test]
    fn class_without_connections_is_an_error() {
        for (sizes, named) in [
            (["7", "", ""], "DATABASE_POOL_SIZE"),
            (["16", "0", ""], "DATABASE_WRITE_CONNECTIONS"),
            (["16", "", "1"], "DATABASE_BACKGROUND_CONNECTIONS"),
            (["16", "8", "6"], "DATABASE_POOL_SIZE"),
            (["16", "many", ""], "DATABASE_WRITE_CONNECTIONS"),
        ] {
            assert!(read(sizes).unwrap_err().contains(named), "{sizes:?}");
        }
    }

    fn link_errors(url: &'static str, variables: &'static [(&'static str, &'static str)]) -> Vec<String> {
        let mut env = Env::from_fn(move |name| match name {
            "DATABASE_URL" => Some(url.to_owned()),
            name => variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()),
        });
        let _database = read_database(&mut env);
        env.into_error().0
    }

    #[test]
    fn production_needs_tls_to_other_machines() {
        for url in [
            "postgres://u:hunter2@db/chat",
            "postgres://u:hunter2@db/chat?sslmode=prefer",
            "postgres://u:hunter2@db/chat?sslmode=disable",
            "postgres://u:hunter2@localhost,db/chat",
            "host=localhost hostaddr=10.0.0.7 user=u password=hunter2",
        ] {
            let errors = link_errors(url, &[]);
            assert!(errors.len() == 1 && errors[0].starts_with("DATABASE_URL: "), "{url}: {errors:?}");
            assert!(errors[0].contains("sslmode=verify-full") && !errors[0].contains("hunter2"), "{errors:?}");
            assert_eq!(link_errors(url, &[("PLAINTEXT_LINKS", "private-network")]), [""; 0], "{url}");
            assert_eq!(link_errors(url, &[("MODE", "development")]), [""; 0], "{url}");
        }
    }

    #[test]
    fn encrypted_and_local_links_are_accepted_in_production() {
        for url in [
            "postgres://u@db/chat?sslmode=require",
            "postgres://u@db/chat?sslmode=verify-ca",
            "postgres://u@db/chat?sslmode=verify-full",
            "postgres://u@localhost/chat",
            "postgres://u@127.0.0.1/chat?sslmode=disable",
            "postgres://u@[::1]/chat?sslmode=prefer",
            "postgres:///chat?host=/run/postgresql",
            "postgres://%2Frun%2Fpostgresql/chat",
            "host=db hostaddr=127.0.0.1 user=u",
        ] {
            assert_eq!(link_errors(url, &[]), [""; 0], "{url}");
        }
    }

    fn read_with_replica(
        variables: &'static [(&'static str, &'static str)],
    ) -> (Option<Option<ReplicaConfig>>, Vec<String>) {
        let mut env = Env::from_fn(move |name| match name {
            "DATABASE_URL" => Some("postgres://localhost/chat".to_owned()),
            name => variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()),
        });
        let database = read_database(&mut env);
        let replica = read_replica(&mut env, database.as_ref());
        (replica, env.into_error().0)
    }

    #[test]
    fn replica_is_off_by_default_and_gets_connections_of_reads() {
        let (replica, errors) = read_with_replica(&[]);
        assert!(matches!(replica, Some(None)) && errors.is_empty(), "{errors:?}");
        let on = &[("DATABASE_READ_URL", "postgres://u@localhost/chat"), ("DATABASE_POOL_SIZE", "40")];
        let (replica, errors) = read_with_replica(on);
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(replica.flatten().unwrap().connections, PoolSizes::from_total(40).read());
    }

    #[test]
    fn replica_url_is_checked_like_that_of_primary() {
        for (variables, named) in [
            (&[("DATABASE_READ_URL", "mysql://hunter2@h/d")], "is not a URL of PostgreSQL"),
            (&[("DATABASE_READ_URL", "postgres://u:hunter2@replica/chat")], "sslmode=verify-full"),
            (
                &[("DATABASE_READ_URL", "postgres://u:hunter2@localhost,replica/chat?sslmode=prefer")],
                "sslmode=verify-full",
            ),
        ] {
            let (_, errors) = read_with_replica(variables);
            assert!(errors.len() == 1 && errors[0].starts_with("DATABASE_READ_URL: "), "{errors:?}");
            assert!(errors[0].contains(named) && !errors[0].contains("hunter2"), "{errors:?}");
        }
        let private = &[("DATABASE_READ_URL", "postgres://u@replica/chat"), ("PLAINTEXT_LINKS", "private-network")];
        assert!(read_with_replica(private).1.is_empty());
    }

    #[test]
    fn role_name_cannot_escape_quotes() {
        assert!("chat_service".parse::<Role>().is_ok());
        for bad in ["", "a\"b", "a b", "a;b", "a'b", &"x".repeat(64)] {
            assert!(bad.parse::<Role>().is_err(), "{bad}");
        }
    }
}
