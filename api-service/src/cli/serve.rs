//! `serve`, `migrate` and the health check.

use shared::kit::env::Env;
use shared::kit::net::{self, file_descriptors};
use shared::kit::shutdown::Shutdown;
use shared::kit::telemetry;
use shared::kit::telemetry::exporter::{BuildInfo, MetricsExporter};

use super::error::CommandError;
use crate::serve::{Listeners, run};
use crate::{config, metrics, store};

#[tokio::main]
pub(super) async fn serve() -> Result<(), CommandError> {
    let config = config::serve(Env::from_process())?;
    let _logs = telemetry::init_logging(config.log_format, &config.log_level)?;
    file_descriptors::raise_limit();
    let shutdown = Shutdown::on_signal()?;
    let build = BuildInfo::new("api-service", env!("CARGO_PKG_VERSION"), option_env!("EHR_CHAT_COMMIT"));
    let metrics = MetricsExporter::install(build, metrics::METRICS, &shutdown)?;
    let listen = |address| net::listen(address).map_err(|error| format!("cannot listen on {address}: {error}"));
    let listeners = Listeners { public: listen(config.listen.public)?, admin: listen(config.listen.admin)? };
    tracing::info!(listen = %config.listen.public, admin = %config.listen.admin, "api-service serves");
    run(config, listeners, Some(metrics), shutdown).await?;
    tracing::info!("api-service has stopped");
    Ok(())
}

#[tokio::main]
pub(super) async fn migrate(last: Option<u32>) -> Result<(), CommandError> {
    let (database, service) = config::migrate(Env::from_process())?;
    let applied = store::migrate(&database, service.as_ref(), last, |line| eprintln!("{line}")).await?;
    match applied.as_slice() {
        [] => println!("the schema is up to date"),
        applied => println!("applied {}", applied.join(", ")),
    }
    Ok(())
}

pub(super) fn healthcheck() -> Result<(), CommandError> {
    Ok(shared::kit::net::healthcheck::probe(config::admin(Env::from_process())?)?)
}
