//! The command line of `stack`: flags, each with its environment variable, and exit codes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::data_dir::DataDir;
use crate::{secret, system, terminal};

/// Exit code for bad configuration: `EX_USAGE` of `sysexits.h`, as the services use it.
const EX_USAGE: u8 = 64;

#[derive(Debug, Parser)]
#[command(name = "stack", about = "The whole system on one machine")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start everything, stay in the foreground, stop everything on Ctrl-C or SIGTERM
    Run(RunOptions),
    /// Print the key that signs this system's tokens; make one when there is none
    Secret {
        /// Folder of everything that the system keeps
        #[arg(long, default_value = ".local")]
        data_dir: PathBuf,
        /// Used as it is when set; at least 32 bytes
        #[arg(long, env = "JWT_SECRET", hide_env_values = true)]
        jwt_secret: Option<String>,
    },
}

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

/// Parses the command line, does what it says and gives the process's exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let outcome = match cli.command {
        Command::Run(options) => run(options),
        Command::Secret { data_dir, jwt_secret } => print_secret(&data_dir, jwt_secret.as_deref()),
    };
    let code = outcome.unwrap_or_else(|error| {
        terminal::print_error(format!("{error:#}"));
        ExitCode::FAILURE
    });
    terminal::flush();
    code
}

/// One thread: the kernel ties a child's death signal to the thread that spawned it (`program`), and
/// this one lives as long as the process.
fn run(options: RunOptions) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(system::run(options))
}

fn print_secret(data_dir: &Path, configured: Option<&str>) -> Result<ExitCode> {
    let path = DataDir::create(data_dir)?.join("jwt_secret");
    println!("{}", secret::jwt_secret(configured, &path)?);
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Result<RunOptions, clap::Error> {
        match Cli::try_parse_from(["stack", "run"].iter().chain(arguments))?.command {
            Command::Run(options) => Ok(options),
            Command::Secret { .. } => unreachable!("`run` was given"),
        }
    }

    #[test]
    fn flags_set_ports_and_counts() {
        let options = options(&["--port", "9000", "--api", "2", "--gateways", "3", "--no-proxy"]).unwrap();
        assert_eq!((options.port, options.api, options.gateways, options.no_proxy), (9000, 2, 3, true));
    }

    #[test]
    fn system_without_services_is_rejected() {
        assert!(options(&["--api", "0"]).is_err());
        assert!(options(&["--gateways", "many"]).is_err());
    }
}
