//! What a test wants started, and the command line that says so to the `stack` binary.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Variables of the developer's shell that must not decide what a test runs against.
const AMBIENT: &[&str] = &[
    "DATABASE_URL",
    "DATABASE_READ_URL",
    "REDIS_URL",
    "GATEWAY_REDIS_URL",
    "JWT_SECRET",
    "CONTENT_KEYS",
    "CONTENT_KEYS_FILE",
    "CONTENT_KEYS_COMMAND",
    "RELAY_KEYS",
    "RELAY_KEYS_FILE",
    "JWKS_FILE",
    "JWKS_URL",
    "AUDIT_KEY",
    "MODE",
    "PLAINTEXT_LINKS",
    "ALLOWED_ORIGINS",
    "PORT",
    "BIND",
    "API",
    "GATEWAYS",
];

/// What to start. The default: 1 API service, 2 gateways, HAProxy on a free port, a fresh data folder
/// that is removed at the end. Services do not drain, so that a test does not wait for their end.
#[derive(Debug, Clone)]
pub struct StackOptions {
    /// Number of API services.
    pub api: usize,
    /// Number of gateways.
    pub gateways: usize,
    /// Environment of the stack, and so of the services (`JWT_SECRET`, limits, `LOG_LEVEL` …).
    pub env: Vec<(String, String)>,
    /// PostgreSQL and Redis only: no migrations, no services, no proxy.
    pub only_backends: bool,
    /// A Redis Cluster, three masters with a replica each, in place of one server.
    pub redis_cluster: bool,
    /// Its nodes name each other by port alone, so that clients stay at the address at which they asked.
    pub redis_nodes_by_port: bool,
    /// Its masters have no replicas: none takes over from one that dies, and the others serve on.
    pub redis_without_replicas: bool,
    /// A primary with a synchronous standby in place of one PostgreSQL server; [`Stack::postgres`](crate::Stack::postgres)
    /// fails them over. Neither is started again when it dies.
    pub postgres_standby: bool,
    /// A Redis master with two replicas and three Sentinels, in place of one server.
    pub redis_sentinel: bool,
    /// No HAProxy: the base URL is the first API service's.
    pub no_proxy: bool,
    /// Public port; 0 picks a free one.
    pub port: u16,
    /// A data folder to keep, in place of a temporary one.
    pub data_dir: Option<PathBuf>,
    /// Where `api-service` and `ws-gateway` are, in place of the test's own target folder.
    pub profile_dir: Option<PathBuf>,
    /// Where the `api-service` that migrates is, when it is another version than the one that serves.
    pub migrate_dir: Option<PathBuf>,
    /// Fails when the system is not ready by then.
    pub startup_timeout: Duration,
}

impl Default for StackOptions {
    fn default() -> Self {
        Self {
            api: 1,
            gateways: 2,
            env: Vec::new(),
            only_backends: false,
            redis_cluster: false,
            redis_nodes_by_port: false,
            redis_without_replicas: false,
            postgres_standby: false,
            redis_sentinel: false,
            no_proxy: false,
            port: 0,
            data_dir: None,
            profile_dir: None,
            migrate_dir: None,
            startup_timeout: Duration::from_secs(180),
        }
    }
}

impl StackOptions {
    /// The `stack` in `binaries`, with all of this as arguments.
    pub(crate) fn command(&self, binaries: &Path, data_dir: &Path) -> Command {
        let mut command = Command::new(binaries.join("stack"));
        command.arg("run").arg("--until-stdin-closes").arg("--data-dir").arg(data_dir);
        command.arg("--profile-dir").arg(self.profile_dir.as_deref().unwrap_or(binaries));
        if let Some(folder) = &self.migrate_dir {
            command.arg("--migrate-dir").arg(folder);
        }
        for (flag, is_set) in [
            ("--only-backends", self.only_backends),
            ("--redis-cluster", self.redis_cluster),
            ("--redis-nodes-by-port", self.redis_nodes_by_port),
            ("--redis-without-replicas", self.redis_without_replicas),
            ("--postgres-standby", self.postgres_standby),
            ("--redis-sentinel", self.redis_sentinel),
            ("--no-proxy", self.no_proxy),
            ("--temporary", self.data_dir.is_none()),
        ] {
            if is_set {
                command.arg(flag);
            }
        }
        for (flag, value) in [("--port", usize::from(self.port)), ("--api", self.api), ("--gateways", self.gateways)] {
            command.arg(flag).arg(value.to_string());
        }
        for variable in AMBIENT {
            command.env_remove(variable);
        }
        // A test that replaces services under load sets it in `env`.
        command.env("DRAIN_SECONDS", "0");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stack_ignores_databases_of_shell() {
        let options = StackOptions { env: vec![("JWT_SECRET".into(), "mine".into())], ..StackOptions::default() };
        let command = options.command(Path::new("/bin"), Path::new("/data"));
        let env: Vec<_> = command.get_envs().collect();
        assert!(env.contains(&("DATABASE_URL".as_ref(), None)) && env.contains(&("REDIS_URL".as_ref(), None)));
        assert!(env.contains(&("JWT_SECRET".as_ref(), Some("mine".as_ref()))));
        assert!(command.get_args().any(|argument| argument == "--temporary"));
    }
}
