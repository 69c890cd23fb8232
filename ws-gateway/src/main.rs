//! `ws-gateway serve`: reads the settings, listens, and runs until a signal.

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use shared::kit::env::{self, EX_USAGE, Env};
use shared::kit::net::{self, file_descriptors};
use shared::kit::shutdown::Shutdown;
use shared::kit::telemetry;
use tokio::runtime::{Builder, Runtime};
use ws_gateway::config::{Config, admin, settings};

/// A handshake mixes short-lived and long-lived allocations. This allocator separates sizes, so that pages can be
/// freed.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// WebSocket gateway of the EHR chat.
#[derive(Parser)]
#[command(version, after_help = env::help(&settings()))]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Hold sockets and relay events until SIGTERM or SIGINT.
    #[command(after_help = env::help(&settings()))]
    Serve,
    /// Probe `/healthz` on ADMIN_ADDR, for container health checks.
    #[command(alias = "alive")]
    Healthcheck,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Serve => serve(),
        Command::Healthcheck => healthcheck(),
    }
}

fn healthcheck() -> ExitCode {
    let address = admin(Env::from_process()).map_err(|error| error.to_string());
    match address.and_then(|admin| shared::kit::net::healthcheck::probe(admin).map_err(|error| error.to_string())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            telemetry::write_stderr(&format!("ws-gateway: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn serve() -> ExitCode {
    let config = match Config::read(Env::from_process()) {
        Ok(config) => config,
        Err(error) => {
            telemetry::write_stderr(&error.to_string());
            return u8::try_from(EX_USAGE).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    let _logs = match telemetry::init_logging(config.process.log_format, &config.process.log_level) {
        Ok(logs) => logs,
        Err(error) => {
            telemetry::write_stderr(&format!("ws-gateway: cannot start the log: {error}"));
            return ExitCode::FAILURE;
        }
    };
    file_descriptors::raise_limit();
    let runtime = match runtime(config.process.worker_threads) {
        Ok(runtime) => runtime,
        Err(error) => return fail("cannot start the runtime", &error),
    };
    runtime.block_on(async {
        let (listener, shutdown) = match (net::listen(config.http.listen_addr), Shutdown::on_signal()) {
            (Ok(listener), Ok(shutdown)) => (listener, shutdown),
            (Err(error), _) => return fail("cannot listen on LISTEN_ADDR", &error),
            (_, Err(error)) => return fail("cannot wait for signals", &error),
        };
        tracing::info!(address = %config.http.listen_addr, admin = %config.http.admin_addr, "gateway started");
        match ws_gateway::run(config, listener, shutdown).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail("cannot run", &error),
        }
    })
}

/// A single thread needs no work-stealing scheduler.
fn runtime(threads: usize) -> io::Result<Runtime> {
    let mut builder = match threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder.enable_all().build()
}

fn fail(what: &str, error: &dyn std::error::Error) -> ExitCode {
    tracing::error!(%error, "{what}");
    ExitCode::FAILURE
}
