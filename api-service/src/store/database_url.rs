//! The URL of PostgreSQL.

use shared::kit::env::Secret;
use shared::kit::net::plaintext_links::is_this_machine;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Config, Error};

/// Parses a URL.
///
/// # Errors
/// The driver's error, which may quote the URL.
pub(super) fn parse(url: &Secret) -> Result<Config, Error> {
    normalize_sslmode(url.expose()).parse()
}

/// Checks that a URL is one of PostgreSQL and names a host.
///
/// # Errors
/// The defect, without the URL.
pub(super) fn check(url: &Secret) -> Result<(), String> {
    // The driver's message may quote the URL.
    let config = parse(url).map_err(|_| "is not a URL of PostgreSQL".to_owned())?;
    match config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        true => Err("names no host".to_owned()),
        false => Ok(()),
    }
}

/// What a URL says about the security of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    /// Whether TLS is required, possible or off.
    pub(super) mode: SslMode,
    /// Whether no server is on another machine.
    pub(super) is_local: bool,
}

/// Reads the link that a URL describes; `None` for what [`check`] rejects.
pub(super) fn link(url: &Secret) -> Option<Link> {
    let config = parse(url).ok()?;
    Some(Link { mode: config.get_ssl_mode(), is_local: is_local(&config) })
}

/// Whether no host is on another machine. The driver connects to `hostaddr`, and `host` is then only a name.
fn is_local(config: &Config) -> bool {
    let addresses = config.get_hostaddrs();
    let is_local_host = |host: &Host| match host {
        Host::Tcp(name) => is_this_machine(name),
        Host::Unix(_) => true,
    };
    match addresses.is_empty() {
        true => config.get_hosts().iter().all(is_local_host),
        false => addresses.iter().all(|address| address.to_canonical().is_loopback()),
    }
}

/// The driver knows no `verify-ca` and `verify-full`; `require` is as strict here.
fn normalize_sslmode(url: &str) -> String {
    let (place, parameters) = match url.split_once("://") {
        // Only after the last question mark: a password may contain others.
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
    #[test]
    fn invalid_database_url_is_rejected_and_hidden() {
        let check = |url: &str| super::check(&url.parse().unwrap_or_else(|never| match never {}));
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
}
