//! Where Redis is, as settings say it.

use std::fmt;
use std::str::FromStr;

use fred::types::config::{Config, ServerConfig};

use crate::kit::redis::Topology;

/// What the query of a URL with Sentinels may hold.
const SENTINEL_PARAMETERS: [&str; 4] = ["node", "sentinelServiceName", "sentinelUsername", "sentinelPassword"];

/// `redis://[[user]:password@]host[:port][/database]`, `redis-cluster://host:port[?node=host:port…]`,
/// `redis-sentinel://host[:26379][/database]?sentinelServiceName=name[&node=host:port…][&sentinelUsername=…&sentinelPassword=…]`,
/// and all with `rediss` for TLS. Never shows itself: it may hold a password.
#[derive(Clone)]
pub struct RedisUrl {
    config: Config,
    tls: bool,
}

impl RedisUrl {
    /// Whether the connection is to be encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Servers and credentials, as the client library has them, without TLS.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What Redis is.
    #[must_use]
    pub fn topology(&self) -> Topology {
        if self.config.server.is_clustered() { Topology::Cluster } else { Topology::Single }
    }
}

impl FromStr for RedisUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, place) = text.split_once("://").unwrap_or_default();
        let (tls, kind) = match scheme.strip_prefix("rediss") {
            Some(kind) => (true, kind),
            None => (false, scheme.strip_prefix("redis").ok_or(UNKNOWN_SCHEME)?),
        };
        // TLS is ours to set up: the library would take this machine's authorities and no others.
        let plain = format!("redis{kind}://{place}");
        let parsed = match kind {
            "" => Config::from_url_centralized(&plain),
            "-cluster" => Config::from_url_clustered(&plain),
            "-sentinel" => {
                check_sentinel_parameters(place)?;
                // The library takes a plus sign in a parameter for a space. Passwords in Base64 have plus signs.
                let (server, parameters) = plain.split_once('?').unwrap_or((&plain, ""));
                Config::from_url_sentinel(&format!("{server}?{}", parameters.replace('+', "%2B")))
            }
            _ => return Err(UNKNOWN_SCHEME),
        };
        let config = parsed.map_err(|_| "is not a URL of Redis")?;
        if matches!(&config.server, ServerConfig::Sentinel { username: Some(_), password: None, .. }) {
            return Err("has a sentinelUsername without a sentinelPassword");
        }
        if config.server.hosts().iter().any(|server| server.host.is_empty()) {
            return Err("names no host");
        }
        Ok(Self { config, tls })
    }
}

const UNKNOWN_SCHEME: &str =
    "must begin with redis://, redis-cluster:// or redis-sentinel://, or with rediss in place of redis for TLS";

/// The client library ignores what it does not know: a misspelt password, say.
fn check_sentinel_parameters(place: &str) -> Result<(), &'static str> {
    let query = place.split_once('?').map_or("", |(_, query)| query);
    let parameters = || query.split('&').filter_map(|parameter| parameter.split_once('='));
    if query.split('&').any(|parameter| !parameter.is_empty() && !parameter.contains('='))
        || parameters().any(|(name, _)| !SENTINEL_PARAMETERS.contains(&name))
    {
        return Err(
            "may have the parameters node, sentinelServiceName, sentinelUsername and sentinelPassword, and no others",
        );
    }
    if !parameters().any(|(name, value)| name == "sentinelServiceName" && !value.is_empty()) {
        return Err("needs ?sentinelServiceName=NAME, the name by which the Sentinels know the master");
    }
    Ok(())
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plus_sign_in_sentinel_password_is_no_space() {
        let url: RedisUrl =
            "redis-sentinel://api:a+b==@a:1?sentinelServiceName=chat&sentinelUsername=u&sentinelPassword=c+d=="
                .parse()
                .unwrap();
        assert_eq!(url.config().password.as_deref(), Some("a+b=="));
        let ServerConfig::Sentinel { password, .. } = &url.config().server else { panic!("it names Sentinels") };
        assert_eq!(password.as_deref(), Some("c+d=="));
    }

    #[test]
    fn scheme_selects_cluster_and_tls() {
        for (url, is_tls, topology) in [
            ("redis://localhost", false, Topology::Single),
            ("redis://127.0.0.1:6380", false, Topology::Single),
            ("redis://:secret@redis:6379/2", false, Topology::Single),
            ("rediss://:secret@redis", true, Topology::Single),
            ("redis-cluster://user:secret@a:1?node=b:2&node=c:3", false, Topology::Cluster),
            ("rediss-cluster://a:1", true, Topology::Cluster),
            ("redis-sentinel://user:secret@a/2?sentinelServiceName=chat&node=b:26380", false, Topology::Single),
            ("rediss-sentinel://a:1?sentinelServiceName=chat&sentinelPassword=secret", true, Topology::Single),
        ] {
            let parsed: RedisUrl = url.parse().unwrap_or_else(|why| panic!("{url} {why}"));
            assert_eq!((parsed.is_tls(), parsed.topology()), (is_tls, topology));
        }
        let cluster: RedisUrl = "redis-cluster://a:1?node=b:2&node=c:3".parse().unwrap();
        assert_eq!(cluster.config.server.hosts().len(), 3);
    }

    #[test]
    fn sentinels_have_their_own_credentials() {
        let url = "redis-sentinel://data:of%2Fdata@a/2?sentinelServiceName=chat&node=b:26380&\
                   sentinelUsername=watch&sentinelPassword=of%2Fwatch";
        let url: RedisUrl = url.parse().unwrap();
        let ServerConfig::Sentinel { hosts, service_name, username, password } = &url.config.server else { panic!() };
        let mut ports: Vec<u16> = hosts.iter().map(|server| server.port).collect();
        ports.sort_unstable();
        assert_eq!((ports.as_slice(), service_name.as_str()), ([26_379, 26_380].as_slice(), "chat"));
        assert_eq!((username.as_deref(), password.as_deref()), (Some("watch"), Some("of/watch")));
        assert_eq!((url.config.username.as_deref(), url.config.password.as_deref()), (Some("data"), Some("of/data")));
        assert_eq!(url.config.database, Some(2));
    }

    #[test]
    fn sentinel_url_says_what_is_wrong() {
        for (url, reason) in [
            ("redis-sentinel://a", "sentinelServiceName=NAME"),
            ("redis-sentinel://a?sentinelServiceName=", "sentinelServiceName=NAME"),
            ("redis-sentinel://a/mymaster", "sentinelServiceName=NAME"),
            ("redis-sentinel://a?sentinelServiceName=x&sentinelPasswrd=hunter2", "and no others"),
            ("redis-sentinel://a?mymaster", "and no others"),
            ("redis-sentinel://a?sentinelServiceName=x&sentinelUsername=hunter2", "without a sentinelPassword"),
            ("redis-sentinel://a/x?sentinelServiceName=x", "is not a URL"),
            ("redis-sentinel://a?sentinelServiceName=x&node=b", "is not a URL"),
            ("redis-sentinels://a", "must begin with"),
        ] {
            let Err(error) = url.parse::<RedisUrl>() else { panic!("{url}") };
            assert!(error.contains(reason) && !error.contains("hunter2"), "{url}: {error}");
        }
    }

    #[test]
    fn invalid_urls_are_rejected_without_the_password() {
        for url in [
            "",
            "localhost:6379",
            "http://localhost",
            "redis-sentinel://localhost",
            "redisx://h",
            "redis://",
            "redis://h:port",
        ] {
            assert!(url.parse::<RedisUrl>().is_err(), "{url}");
        }
        let url: RedisUrl = "redis://:hunter2@redis".parse().unwrap();
        assert_eq!(format!("{url:?}"), "[redacted]");
    }
}
