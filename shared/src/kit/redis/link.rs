//! The settings of the link to Redis, which both services read alike.

use fred::types::config::ServerConfig;

use crate::kit::env::{Env, Setting};
use crate::kit::net::plaintext_links::{PlaintextLinks, is_this_machine};
use crate::kit::net::tls::CaFile;
use crate::kit::redis::RedisUrl;

const REDIS_URL: Setting = Setting::new(
    "REDIS_URL",
    None,
    "redis://[[user]:password@]host[:port][/database], Redis 6.2 or newer, or a Redis Cluster, 7 or newer: \
     redis-cluster://host:port[?node=host:port&…], or Redis Sentinel: \
     redis-sentinel://[[user]:password@]host[:26379][/database]?sentinelServiceName=name[&node=host:port…]\
     [&sentinelUsername=…][&sentinelPassword=…]; rediss in place of redis for TLS, which production requires",
);
const REDIS_CA_FILE: Setting = Setting::new(
    "REDIS_CA_FILE",
    Some(""),
    "CA bundle (PEM) that verifies the certificate of Redis; needs rediss; default: system CAs",
);

/// How to reach Redis.
#[derive(Debug, Clone)]
pub struct RedisLink {
    /// The server, nodes of the cluster, or Sentinels; it may contain a password.
    pub url: RedisUrl,
    /// CA bundle that verifies the certificate, in place of the system's.
    pub ca: Option<CaFile>,
}

impl RedisLink {
    /// Reads both settings. In production a link to another machine needs TLS or `PLAINTEXT_LINKS`.
    pub fn read(env: &mut Env) -> Option<Self> {
        let plaintext = PlaintextLinks::read(env);
        let url = env.read::<RedisUrl>(&REDIS_URL);
        let ca = env.read_optional::<CaFile>(&REDIS_CA_FILE);
        let (url, ca) = (url?, ca?);
        if !url.is_tls() {
            if ca.is_some() {
                env.add_error(&REDIS_CA_FILE, "is of no use while REDIS_URL does not begin with rediss");
            } else if !is_within_this_machine(&url) {
                plaintext.report(env, &REDIS_URL, "use rediss://, rediss-cluster:// or rediss-sentinel://");
            }
        }
        Some(Self { url, ca })
    }
}

/// The nodes of a cluster and Sentinels say where the data is, so their URLs do not tell.
fn is_within_this_machine(url: &RedisUrl) -> bool {
    let ServerConfig::Centralized { server } = &url.config().server else { return false };
    is_this_machine(&server.host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(url: &'static str, variables: &'static [(&'static str, &'static str)]) -> Vec<String> {
        let mut env = Env::from_fn(move |name| match name {
            "REDIS_URL" => Some(url.to_owned()),
            name => variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()),
        });
        let _link = RedisLink::read(&mut env);
        env.into_error().0
    }

    #[test]
    fn production_needs_rediss_to_other_machines() {
        for url in [
            "redis://cache",
            "redis://:hunter2@10.0.0.7:6379",
            "redis-cluster://a:1?node=b:2",
            "redis-cluster://127.0.0.1:1",
            "redis-sentinel://127.0.0.1:1?sentinelServiceName=chat&sentinelPassword=hunter2",
        ] {
            let errors_of_url = errors(url, &[]);
            assert!(
                errors_of_url.len() == 1 && errors_of_url[0].starts_with("REDIS_URL: "),
                "{url}: {errors_of_url:?}"
            );
            assert!(
                errors_of_url[0].contains("rediss://") && !errors_of_url[0].contains("hunter2"),
                "{errors_of_url:?}"
            );
            assert_eq!(errors(url, &[("PLAINTEXT_LINKS", "private-network")]), [""; 0], "{url}");
            assert_eq!(errors(url, &[("MODE", "development")]), [""; 0], "{url}");
        }
        for url in
            ["rediss://cache", "rediss-cluster://a:1", "redis://localhost", "redis://127.0.0.1:1", "redis://[::1]:1"]
        {
            assert_eq!(errors(url, &[]), [""; 0], "{url}");
        }
    }

    #[test]
    fn ca_file_needs_rediss() {
        let file = std::env::temp_dir().join(format!("redis-link-{}.pem", std::process::id()));
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["redis".to_owned()]).unwrap();
        std::fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        let path: &'static str = file.to_str().unwrap().to_owned().leak();
        let variables: &'static [(&str, &str)] = vec![("REDIS_CA_FILE", path)].leak();
        for url in ["redis://localhost", "redis://cache", "redis-cluster://a:1"] {
            let errors = errors(url, variables);
            assert!(errors.len() == 1 && errors[0].starts_with("REDIS_CA_FILE: is of no use"), "{url}: {errors:?}");
        }
        assert_eq!(errors("rediss://cache", variables), [""; 0]);
        std::fs::remove_file(&file).unwrap();
    }
}
