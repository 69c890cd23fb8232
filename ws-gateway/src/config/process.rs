//! The process: logs, traces, threads and shutdown.

use std::time::Duration;

use shared::kit::env::{Env, Setting};
use shared::kit::telemetry::trace::TraceConfig;
use shared::kit::telemetry::{self, LogFormat};

const LOG_FORMAT: Setting = Setting::new("LOG_FORMAT", Some("json"), "json or text");
const LOG_LEVEL: Setting =
    Setting::new("LOG_LEVEL", Some("info"), "error, warn, info, debug or trace, or tracing directives");
const DRAIN: Setting = Setting::new(
    "DRAIN_SECONDS",
    Some("10"),
    "0 to 3600, less than SHUTDOWN_TIMEOUT_SECONDS: window in which sockets are closed at the end",
);
const SHUTDOWN_TIMEOUT: Setting =
    Setting::new("SHUTDOWN_TIMEOUT_SECONDS", Some("30"), "1 to 7200: from SIGTERM to the end of the process");
const WORKER_THREADS: Setting =
    Setting::new("WORKER_THREADS", Some("0"), "0 to 1024: threads that serve sockets; 0 is one for each core");

/// Settings of the process.
#[derive(Debug, Clone)]
pub struct ProcessConfig {
    /// Format of log lines.
    pub log_format: LogFormat,
    /// Level, or tracing directives.
    pub log_level: String,
    /// The collector of traces.
    pub traces: Option<TraceConfig>,
    /// Window over which a shutdown closes the sockets.
    pub drain: Duration,
    /// From the signal to the end of the process.
    pub shutdown_timeout: Duration,
    /// Threads that serve sockets; 0 is one per core.
    pub worker_threads: usize,
}

impl ProcessConfig {
    pub(super) fn read(env: &mut Env) -> Option<Self> {
        let log_format = env.read(&LOG_FORMAT);
        let log_level = env.read_checked(&LOG_LEVEL, telemetry::check_filter);
        let traces = TraceConfig::read(env);
        let drain = env.read_seconds(&DRAIN, 0..=3600);
        let shutdown_timeout = env.read_seconds(&SHUTDOWN_TIMEOUT, 1..=7200);
        let worker_threads = env.read_number(&WORKER_THREADS, 0..=1024);
        Some(Self {
            log_format: log_format?,
            log_level: log_level?,
            traces: traces?,
            drain: drain?,
            shutdown_timeout: shutdown_timeout?,
            worker_threads: worker_threads?,
        })
    }
}
