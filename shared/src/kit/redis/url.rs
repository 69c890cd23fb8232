//! Where Redis is, as settings say it.

use std::fmt;
use std::str::FromStr;

use fred::types::config::Config;

use crate::kit::redis::Topology;

/// `redis://[[user]:password@]host[:port][/database]`, `redis-cluster://host:port[?node=host:port…]`, and both with
/// `rediss` for TLS. Never shows itself: it may hold a password.
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
        let (tls, is_cluster) = match scheme {
            "redis" => (false, false),
            "rediss" => (true, false),
            "redis-cluster" => (false, true),
            "rediss-cluster" => (true, true),
            _ => return Err("must begin with redis://, rediss://, redis-cluster:// or rediss-cluster://"),
        };
        // TLS is ours to set up: the library would take this machine's authorities and no others.
        let plain = format!("{}://{place}", if is_cluster { "redis-cluster" } else { "redis" });
        let parse = if is_cluster { Config::from_url_clustered } else { Config::from_url_centralized };
        let config = parse(&plain).map_err(|_| "is not a URL of Redis")?;
        if config.server.hosts().iter().any(|server| server.host.is_empty()) {
            return Err("names no host");
        }
        Ok(Self { config, tls })
    }
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
    fn scheme_selects_cluster_and_tls() {
        for (url, is_tls, topology) in [
            ("redis://localhost", false, Topology::Single),
            ("redis://127.0.0.1:6380", false, Topology::Single),
            ("redis://:secret@redis:6379/2", false, Topology::Single),
            ("rediss://:secret@redis", true, Topology::Single),
            ("redis-cluster://user:secret@a:1?node=b:2&node=c:3", false, Topology::Cluster),
            ("rediss-cluster://a:1", true, Topology::Cluster),
        ] {
            let parsed: RedisUrl = url.parse().unwrap_or_else(|why| panic!("{url} {why}"));
            assert_eq!((parsed.is_tls(), parsed.topology()), (is_tls, topology));
        }
        let cluster: RedisUrl = "redis-cluster://a:1?node=b:2&node=c:3".parse().unwrap();
        assert_eq!(cluster.config.server.hosts().len(), 3);
    }

    #[test]
    fn invalid_urls_are_rejected_without_the_password() {
        for url in
            ["", "localhost:6379", "http://localhost", "redis-sentinel://localhost", "redis://", "redis://h:port"]
        {
            assert!(url.parse::<RedisUrl>().is_err(), "{url}");
        }
        let url: RedisUrl = "redis://:hunter2@redis".parse().unwrap();
        assert_eq!(format!("{url:?}"), "[redacted]");
    }
}
