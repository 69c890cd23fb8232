//! Logs and metrics. Neither ever holds a token or message content.

pub mod exporter;
mod log_queue;
pub mod log_throttle;
mod repeat_limiter;
pub mod trace;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io;
use std::str::FromStr;
use std::time::{Duration, Instant};

use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::kit::timestamp;
use log_queue::LogQueue;
use repeat_limiter::{OWN_TARGET, RepeatLimiter, Suppressed};

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

/// Whether a text says which log lines there are: a level, or `tracing` directives (`info,ws_gateway=debug`). To the library a
/// misspelt level is the name of a module, of which all lines are wanted, and of nothing else any.
///
/// # Errors
/// What is wrong with it.
pub fn check_filter(filter: &String) -> Result<(), String> {
    // The library takes nothing, and numbers, for levels as well.
    let is_level = |text: &str| !text.is_empty() && LevelFilter::from_str(text).is_ok() && text.parse::<u8>().is_err();
    let is_directive = |text: &str| match text.rsplit_once('=') {
        Some((target, level)) => !target.is_empty() && is_level(level),
        None => is_level(text),
    };
    let is_filter = filter.split(',').all(is_directive) && EnvFilter::try_new(filter).is_ok();
    is_filter
        .then_some(())
        .ok_or_else(|| "must be error, warn, info, debug, trace or off, or directives with them".to_owned())
}

/// How long the end of a process waits for its last lines.
const FINAL_FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// The log of this process. Its drop writes the waiting lines, so it is dropped last.
#[must_use = "the last lines are written when it is dropped"]
pub struct LogGuard(Option<(LogQueue, RepeatLimiter)>);

impl Drop for LogGuard {
    fn drop(&mut self) {
        if let Some((lines, repeats)) = &self.0 {
            log_suppressed(repeats, true);
            lines.flush(FINAL_FLUSH_TIMEOUT);
        }
    }
}

/// Sends log lines and panics of this process to standard error. `filter` is a level (`info`) or `tracing` directives. Lines of
/// libraries below `info` are never written (see [`is_safe`]).
///
/// Logging never blocks. A bounded queue holds unread lines; lines beyond it are dropped and counted
/// (`ehr_chat_log_lines_dropped_total`). Repeated warnings and errors are counted too. A second call in one process has no
/// effect, so tests may start several servers.
///
/// # Errors
/// When the thread that writes cannot be started.
pub fn init_logging(format: LogFormat, filter: &str) -> io::Result<LogGuard> {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let repeats = RepeatLimiter::default();
    let lines = LogQueue::new(repeats.clone());
    let written = tracing_subscriber::fmt::layer().with_writer(lines.clone()).with_target(false);
    let written = match format {
        LogFormat::Json => written.json().flatten_event(true).boxed(),
        LogFormat::Text => written.with_ansi(false).boxed(),
    };
    // The hint is what lets lines that `filter` does not want cost nothing: without it every library's every line is made
    // before it is refused.
    let safe =
        filter_fn(|metadata| is_safe(metadata.target(), *metadata.level())).with_max_level_hint(LevelFilter::TRACE);
    let filter = filter.and(safe);
    if tracing_subscriber::registry().with(written.with_filter(filter)).try_init().is_err() {
        return Ok(LogGuard(None));
    }
    let repeated = repeats.clone();
    lines.start(io::stderr(), move |dropped| {
        if dropped > 0 {
            tracing::warn!(target: OWN_TARGET, dropped, "log lines were dropped: standard error did not take them");
        }
        log_suppressed(&repeated, false);
    })?;
    install_panic_hook(lines.clone(), format);
    Ok(LogGuard(Some((lines, repeats))))
}

fn log_suppressed(repeats: &RepeatLimiter, last: bool) {
    for Suppressed { count, sample } in repeats.take_suppressed(Instant::now(), last) {
        tracing::warn!(target: OWN_TARGET, count, last = sample, "lines that repeat were left out");
    }
}

/// Says something outside of the log, and waits half a second at most for it to be read: how a process ends must not
/// depend on who reads.
pub fn write_stderr(text: &str) {
    log_queue::write_stderr(text, FINAL_FLUSH_TIMEOUT);
}

/// A panic is a line of the log. Of its message only what stands in the code is written: what is formatted may quote content.
/// The line is made here, because what panicked may be what makes lines.
fn install_panic_hook(lines: LogQueue, format: LogFormat) {
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let why = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or_default();
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or_default();
        let backtrace = Backtrace::capture();
        let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
        let at = timestamp::timestamp(time::OffsetDateTime::now_utc());
        let line = match format {
            LogFormat::Json => serde_json::json!({
                "timestamp": at, "level": "ERROR", "message": "panicked", "place": place, "why": why, "thread": thread,
                "backtrace": backtrace,
            })
            .to_string(),
            LogFormat::Text => {
                format!(
                    "{at} ERROR panicked place={place} why={why:?} thread={thread:?} {}",
                    backtrace.unwrap_or_default()
                )
            }
        };
        lines.push(format!("{line}\n").as_bytes());
    }));
}

/// Whether a line may be written: ours always, those of libraries only from `info` up. Below it a database driver
/// shows the parameters of statements and a WebSocket library its frames: content and tokens.
fn is_safe(target: &str, level: Level) -> bool {
    let ours = ["shared", "api_service", "ws_gateway"];
    level <= Level::INFO || ours.contains(&target.split("::").next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn library_debug_lines_are_never_written() {
        for library in ["some_driver::query", "some_socket::frame", "poem_like", "api_service_imposter"] {
            assert!(!is_safe(library, Level::DEBUG) && !is_safe(library, Level::TRACE), "{library}");
            assert!(is_safe(library, Level::INFO) && is_safe(library, Level::ERROR), "{library}");
        }
        assert!(is_safe("api_service::writer", Level::TRACE));
        assert!(is_safe("ws_gateway", Level::DEBUG));
    }

    #[test]
    fn misspelt_log_level_is_rejected() {
        for good in ["info", "WARN", "off", "info,ws_gateway=debug", "warn,api_service::outbox=trace"] {
            assert_eq!(check_filter(&good.to_owned()), Ok(()), "{good}");
        }
        for bad in ["inof", "verbose", "3", "info,", "=debug", "api_service=loud", "api_service", "info debug"] {
            assert!(check_filter(&bad.to_owned()).is_err(), "{bad}");
        }
    }
}
