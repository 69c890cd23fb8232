//! The end of a gateway. What ends later serves what ends earlier, and one deadline holds for all.
//!
//! 1. Sockets are closed over the drain window, each in its slot (`socket::drain_slot`). New connections still get a response.
//! 2. The public port stops; background tasks send what they hold.
//! 3. The admin port stops; connections to Redis end, and the last spans are exported.

use std::time::Duration;

use futures_util::future::join;
use shared::kit::shutdown::{Shutdown, TaskError};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::task::TaskTracker;

use crate::state::AppState;

/// Part of the shutdown timeout that is kept for the last spans and for closing the connections to Redis.
const FINAL_WRITE_TIMEOUT: Duration = Duration::from_millis(500);

/// Part of the shutdown timeout that is kept for background tasks, which end after the sockets.
const BACKGROUND_TIMEOUT: Duration = Duration::from_secs(1);

/// Time for closing the sockets after a task has failed.
const FAILURE_TIMEOUT: Duration = Duration::from_secs(10);

/// Groups of tasks that end one after another, once the shutdown has begun.
pub(super) struct Phases {
    /// Answers connections while the sockets close: this gateway shuts down.
    pub(super) accepting: Shutdown,
    /// What the sockets need to the last.
    pub(super) background: Shutdown,
    /// Reports on the admin port that this gateway shuts down, until the background tasks have ended.
    pub(super) administering: Shutdown,
    /// Connections to Redis, which the background tasks need to the last.
    pub(super) connections: Shutdown,
}

impl Phases {
    pub(super) fn new(shutdown: &Shutdown) -> Self {
        let background = shutdown.later_phase();
        Self {
            accepting: shutdown.later_phase(),
            connections: background.later_phase(),
            administering: shutdown.later_phase(),
            background,
        }
    }
}

/// Waits until the shutdown begins or a task fails. Then ends everything in order.
///
/// # Errors
/// The task that failed.
pub(super) async fn run_until_closed(app: &AppState, sockets: &TaskTracker, phases: &Phases) -> Result<(), TaskError> {
    let failed = tokio::select! {
        () = app.shutdown.wait_for_begin() => None,
        failed = app.shutdown.wait_for_failure() => Some(failed),
    };
    let process = &app.config.process;
    let allowed =
        if failed.is_some() { process.shutdown_timeout.min(FAILURE_TIMEOUT) } else { process.shutdown_timeout };
    let deadline = Instant::now() + allowed.saturating_sub(FINAL_WRITE_TIMEOUT);
    let close_by = deadline.checked_sub(BACKGROUND_TIMEOUT.min(allowed / 4)).unwrap_or(deadline);
    app.shutdown.begin();
    tracing::info!(sockets = sockets.len(), "drain started");
    app.hub.begin_drain();
    sockets.close();
    // Accepts until the drain window ends, even without sockets. The load balancer needs time to notice, and a
    // handshake in the accept queue would otherwise get no response.
    let noticed = sleep_until(close_by.min(Instant::now() + process.drain));
    let (drained, ()) = join(timeout_at(close_by, sockets.wait()), noticed).await;
    let drained = drained.is_ok();
    phases.accepting.begin();
    app.audit.flush_counts();
    let flushed = phases.background.finish(deadline.saturating_duration_since(Instant::now())).await;
    phases.administering.begin();
    let final_spans = async {
        if let Some(traces) = &app.traces {
            traces.clone().finish(FINAL_WRITE_TIMEOUT).await;
        }
    };
    let (_lost, ()) = join(phases.connections.finish(FINAL_WRITE_TIMEOUT), final_spans).await;
    if !(drained && flushed) {
        tracing::warn!(drained, flushed, "shutdown deadline exceeded");
    }
    failed.map_or(Ok(()), Err)
}
