//! Logs and metrics. Neither ever holds a token or message content.

use std::str::FromStr;

use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    Json,
    /// For people.
    Text,
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err("must be json or text"),
        }
    }
}

/// Sends this process's log lines to standard error. `filter` is a level (`info`) or `tracing` directives; of the
/// libraries nothing below `info` is written, whatever it says (see [`is_safe`]).
/// A second call in one process has no effect, so tests may start several servers.
pub fn start_logs(format: LogFormat, filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let lines = match format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Text => lines.with_ansi(false).boxed(),
    };
    // The hint is what lets lines that `filter` does not want cost nothing: without it every library's every line is made
    // before it is refused.
    let safe =
        filter_fn(|metadata| is_safe(metadata.target(), *metadata.level())).with_max_level_hint(LevelFilter::TRACE);
    let _already_started = tracing_subscriber::registry().with(lines.with_filter(filter.and(safe))).try_init();
}

/// Whether a line may be written: ours always, those of libraries only from `info` up. Below it a database driver
/// shows the parameters of statements and a WebSocket library its frames: content and tokens.
fn is_safe(target: &str, level: Level) -> bool {
    let ours = ["shared", "api_service", "ws_gateway"];
    level <= Level::INFO || ours.contains(&target.split("::").next().unwrap_or_default())
}

/// Seconds, from half a millisecond to ten seconds.
const LATENCY_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0];

/// Starts to collect this process's metrics; the handle renders them for `/metrics`.
///
/// # Errors
/// When they are collected already.
pub fn start_metrics() -> Result<PrometheusHandle, BuildError> {
    use metrics_exporter_prometheus::Matcher;
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &LATENCY_BUCKETS)?
        .install_recorder()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_never_write_what_could_hold_content() {
        for library in ["some_driver::query", "some_socket::frame", "poem_like", "api_service_imposter"] {
            assert!(!is_safe(library, Level::DEBUG) && !is_safe(library, Level::TRACE), "{library}");
            assert!(is_safe(library, Level::INFO) && is_safe(library, Level::ERROR), "{library}");
        }
        assert!(is_safe("api_service::writer", Level::TRACE));
        assert!(is_safe("ws_gateway", Level::DEBUG));
    }
}
