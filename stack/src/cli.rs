//! The command line of `stack`: flags, each with its environment variable, and exit codes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::data_dir::DataDir;
use crate::postgres::PostgresCommand;
use crate::run_options::RunOptions;
use crate::{control, secret, system, terminal};

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
    /// Kill, promote or start a server of a running stack that has a standby; for tests and development
    Postgres {
        /// What to do
        #[arg(value_enum)]
        command: PostgresCommand,
        /// Folder of everything that the system keeps
        #[arg(long, default_value = ".local")]
        data_dir: PathBuf,
    },
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
        Command::Postgres { command, data_dir } => control::send(&data_dir, command).map(|()| ExitCode::SUCCESS),
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
            Command::Postgres { .. } | Command::Secret { .. } => unreachable!("`run` was given"),
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
