//! The options of `stack run`, each with its environment variable.

use std::path::PathBuf;

use clap::Args;

/// What to start, and where.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunOptions {
    /// Public port; 0 picks a free one
    #[arg(long, env = "PORT", default_value_t = 8080)]
    pub port: u16,
    /// Addresses of the public port, comma-separated [default: 127.0.0.1 and ::1]
    #[arg(long, env = "BIND")]
    pub bind: Option<String>,
    /// API services
    #[arg(long, env = "API", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub api: u16,
    /// Gateways
    #[arg(long, env = "GATEWAYS", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub gateways: u16,
    /// An existing PostgreSQL database in place of a private server
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// An existing Redis in place of a private server
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    pub redis_url: Option<String>,
    /// Where the gateways reach that Redis, when it is not where the API services do: through a proxy, say
    #[arg(long, env = "GATEWAY_REDIS_URL", hide_env_values = true)]
    pub gateway_redis_url: Option<String>,
    /// A Redis Cluster in place of one private server: three masters, a replica each
    #[arg(long, conflicts_with = "redis_url")]
    pub redis_cluster: bool,
    /// Its nodes name each other by port alone: clients find all of them at the address of the one that they asked,
    /// behind a proxy, say
    #[arg(long, requires = "redis_cluster")]
    pub redis_nodes_by_port: bool,
    /// Its masters have no replicas: none takes over from one that dies, and the others serve on
    #[arg(long, requires = "redis_cluster")]
    pub redis_without_replicas: bool,
    /// A primary with a synchronous standby in place of one PostgreSQL server; `stack postgres` fails them over
    #[arg(long, conflicts_with = "database_url")]
    pub postgres_standby: bool,
    /// A Redis master with two replicas in place of one private server, and three Sentinels that replace it
    #[arg(long, conflicts_with_all = ["redis_url", "redis_cluster"])]
    pub redis_sentinel: bool,
    /// Signs and verifies tokens; at least 32 bytes [default: one made once and kept in the data folder]
    #[arg(long, env = "JWT_SECRET", hide_env_values = true)]
    pub jwt_secret: Option<String>,
    /// Makes the hashes of the audit trail; at least 32 bytes [default: one made once and kept in the data folder]
    #[arg(long, env = "AUDIT_KEY", hide_env_values = true)]
    pub audit_key: Option<String>,
    /// Folder of everything that the system keeps
    #[arg(long, default_value = ".local")]
    pub data_dir: PathBuf,
    /// Folder of the services' binaries [default: where this binary is]
    #[arg(long)]
    pub profile_dir: Option<PathBuf>,
    /// Folder of the `api-service` that migrates, when it is another version [default: that of the services]
    #[arg(long)]
    pub migrate_dir: Option<PathBuf>,
    /// No HAProxy: the first service of each kind is the public one
    #[arg(long)]
    pub no_proxy: bool,
    /// PostgreSQL and Redis only, without migrations
    #[arg(long)]
    pub only_backends: bool,
    /// Stop when standard input ends: with the process that holds its other end
    #[arg(long)]
    pub until_stdin_closes: bool,
    /// Remove the data folder at the end
    #[arg(long)]
    pub temporary: bool,
}
