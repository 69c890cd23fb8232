//! The metrics of a service, as `/metrics` shows them. Never a token or content.

use std::time::Duration;

use metrics::Label;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::kit::shutdown::Shutdown;

/// Seconds, from half a millisecond to ten seconds.
const LATENCY_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0];
/// Things that are done together.
const SIZE_BUCKETS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];
/// How often recorded values are put into their buckets. Until then each value takes memory, even if metrics are never scraped.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Counted in [`super::init_logging`]; of every service's metrics.
pub const LOG_LINES_DROPPED: MetricSpec = MetricSpec::new(
    MetricKind::Counter,
    "ehr_chat_log_lines_dropped_total",
    "log lines that standard error did not take",
);

/// Whether the service says that it is ready; of every service's metrics.
pub const SERVICE_READY: MetricSpec =
    MetricSpec::new(MetricKind::Gauge, "ehr_chat_service_ready", "1 while /readyz says that the service is ready");

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Counts up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts values by size.
    Histogram,
}

/// A metric of a service, as `/metrics` describes it.
#[derive(Debug, Clone, Copy)]
pub struct MetricSpec {
    /// What it is.
    pub kind: MetricKind,
    /// Its name; seconds end in `_seconds`, sizes of batches in `_size`, counters in `_total`.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// Its label and the values that this may have; no value where they are not known before.
    pub label: Option<(&'static str, &'static [&'static str])>,
}

impl MetricSpec {
    /// One without a label.
    #[must_use]
    pub const fn new(kind: MetricKind, name: &'static str, help: &'static str) -> Self {
        Self { kind, name, help, label: None }
    }

    /// The same with a label.
    #[must_use]
    pub const fn with_label(self, label: &'static str, values: &'static [&'static str]) -> Self {
        Self { label: Some((label, values)), ..self }
    }

    fn describe(&self) {
        let (name, help) = (self.name, self.help);
        match self.kind {
            MetricKind::Counter => metrics::describe_counter!(name, help),
            MetricKind::Gauge => metrics::describe_gauge!(name, help),
            MetricKind::Histogram => metrics::describe_histogram!(name, help),
        }
    }

    /// Sets it to nothing.
    fn register(&self, labels: Vec<Label>) {
        match self.kind {
            MetricKind::Counter => metrics::counter!(self.name, labels).increment(0),
            MetricKind::Gauge => metrics::gauge!(self.name, labels).increment(0.0),
            MetricKind::Histogram => drop(metrics::histogram!(self.name, labels)),
        }
    }
}

/// What runs: one series with the value 1, whose labels say it.
const BUILD_INFO: &str = "ehr_chat_build_info";

/// Which build of a service this is.
#[derive(Debug, Clone, Copy)]
pub struct BuildInfo {
    service: &'static str,
    version: &'static str,
    commit: &'static str,
}

impl BuildInfo {
    /// `commit` is the commit that the builder named, if any: a build needs no repository.
    #[must_use]
    pub fn new(service: &'static str, version: &'static str, commit: Option<&'static str>) -> Self {
        Self { service, version, commit: commit.filter(|commit| !commit.is_empty()).unwrap_or("unknown") }
    }
}

/// Renders the metrics of this process for `/metrics`. Clones share them.
#[derive(Clone)]
pub struct MetricsExporter {
    handle: PrometheusHandle,
    #[cfg(target_os = "linux")]
    process: metrics_process::Collector,
}

impl MetricsExporter {
    /// Starts to collect metrics. All exist from the first scrape on, because a rate cannot count the event that creates its
    /// series. Call it within the runtime.
    ///
    /// # Errors
    /// When they are collected already.
    pub fn install(build: BuildInfo, specs: &[MetricSpec], shutdown: &Shutdown) -> Result<Self, BuildError> {
        let exporter = Self::from_handle(builder()?.install_recorder()?);
        exporter.register(build, specs);
        let upkeep = exporter.handle.clone();
        shutdown.spawn_until("metrics", async move {
            loop {
                tokio::time::sleep(UPKEEP_INTERVAL).await;
                upkeep.run_upkeep();
            }
        });
        Ok(exporter)
    }

    fn from_handle(handle: PrometheusHandle) -> Self {
        Self {
            handle,
            #[cfg(target_os = "linux")]
            process: metrics_process::Collector::default(),
        }
    }

    fn register(&self, build: BuildInfo, specs: &[MetricSpec]) {
        for spec in specs {
            spec.describe();
            match spec.label {
                None => spec.register(Vec::new()),
                Some((label, values)) => {
                    values.iter().for_each(|value| spec.register(vec![Label::new(label, *value)]));
                }
            }
        }
        metrics::describe_gauge!(BUILD_INFO, "which build of the service runs");
        let BuildInfo { service, version, commit } = build;
        metrics::gauge!(BUILD_INFO, "service" => service, "version" => version, "commit" => commit).set(1.0);
        #[cfg(target_os = "linux")]
        self.process.describe();
    }

    /// The text of `/metrics`. The system is asked for the `process_…` metrics now: only a scrape pays for them.
    #[must_use]
    pub fn render(&self) -> String {
        #[cfg(target_os = "linux")]
        self.process.collect();
        self.handle.render()
    }
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &LATENCY_BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_size".to_owned()), &SIZE_BUCKETS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(commit: Option<&'static str>) -> String {
        let recorder = builder().unwrap().build_recorder();
        let exporter = MetricsExporter::from_handle(recorder.handle());
        metrics::with_local_recorder(&recorder, || {
            exporter.register(BuildInfo::new("api-service", "0.1.0", commit), &[LOG_LINES_DROPPED]);
            exporter.render()
        })
    }

    #[test]
    fn build_is_named_with_and_without_commit() {
        let labels = r#"service="api-service",version="0.1.0",commit="4a7f""#;
        assert!(rendered(Some("4a7f")).contains(&format!("ehr_chat_build_info{{{labels}}} 1\n")));
        for unknown in [None, Some("")] {
            assert!(rendered(unknown).contains(r#"commit="unknown"} 1"#), "{unknown:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn process_metrics_have_standard_names_and_values() {
        let text = rendered(None);
        for name in [
            "process_start_time_seconds",
            "process_resident_memory_bytes",
            "process_virtual_memory_bytes",
            "process_open_fds",
            "process_max_fds",
            "process_threads",
        ] {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
            assert!(value.is_some_and(|value| value > 0.0), "{name}: {value:?}");
            assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        }
        assert!(text.contains("# TYPE process_cpu_seconds_total counter"), "{text}");
    }
}
