//! Logs and metrics. Neither ever holds a token or message content.

use std::str::FromStr;
use std::time::Duration;

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
/// Things that are done together.
const SIZE_BUCKETS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];
/// How often recorded values are put into their buckets. Until then each of them takes memory, whether anybody asks for
/// metrics or not.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Counts up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts values by size.
    Histogram,
}

/// A metric of a service, as `/metrics` describes it.
#[derive(Debug, Clone, Copy)]
pub struct Meter {
    /// What it is.
    pub kind: Kind,
    /// Its name; seconds end in `_seconds`, sizes of batches in `_size`, counters in `_total`.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// Its label and the values that this may have; no value where they are not known before.
    pub label: Option<(&'static str, &'static [&'static str])>,
}

impl Meter {
    /// One without a label.
    #[must_use]
    pub const fn new(kind: Kind, name: &'static str, help: &'static str) -> Self {
        Self { kind, name, help, label: None }
    }

    /// The same with a label.
    #[must_use]
    pub const fn by(self, label: &'static str, values: &'static [&'static str]) -> Self {
        Self { label: Some((label, values)), ..self }
    }

    fn describe(&self) {
        let (name, help) = (self.name, self.help);
        match self.kind {
            Kind::Counter => metrics::describe_counter!(name, help),
            Kind::Gauge => metrics::describe_gauge!(name, help),
            Kind::Histogram => metrics::describe_histogram!(name, help),
        }
    }

    /// Sets it to nothing.
    fn begin(&self, labels: Vec<metrics::Label>) {
        match self.kind {
            Kind::Counter => metrics::counter!(self.name, labels).increment(0),
            Kind::Gauge => metrics::gauge!(self.name, labels).increment(0.0),
            Kind::Histogram => drop(metrics::histogram!(self.name, labels)),
        }
    }
}

/// Starts to collect this process's metrics; the handle renders them for `/metrics`. All of `meters` are there from the
/// first scrape on, since what appears with its first event has lost that event to everybody who asks for rates. Call it
/// within the runtime.
///
/// # Errors
/// When they are collected already.
pub fn start_metrics(meters: &[Meter]) -> Result<PrometheusHandle, BuildError> {
    use metrics_exporter_prometheus::Matcher;
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &LATENCY_BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_size".to_owned()), &SIZE_BUCKETS)?
        .install_recorder()?;
    for meter in meters {
        meter.describe();
        match meter.label {
            None => meter.begin(Vec::new()),
            Some((label, values)) => {
                values.iter().for_each(|value| meter.begin(vec![metrics::Label::new(label, *value)]));
            }
        }
    }
    let upkeep = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP_EVERY).await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
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
