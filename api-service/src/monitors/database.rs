//! Monitors the database: whether it answers, and whether its schema and settings fit this service. Readiness, the admin port and
//! the log report the state that this task found.
//!
//! Nothing is served or written before the database was ready once and the master keys matched.

use std::time::Duration;

use shared::kit::env::ConfigError;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::commit_waits::CommitWaits;
use crate::store::Store;

/// Between two checks.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The minimum, even when failures are reported.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// Between two checks while the database is not ready.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// Between two log lines while the database is not ready.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// A check that takes longer has met a slow server.
const SLOW_CHECK: Duration = Duration::from_secs(1);
const COMMIT_WAIT_METRIC: &str = "ehr_chat_database_commit_wait_seconds";
/// A commit that waits longer for a synchronous standby has met one that is away. Senders wait hardly longer.
const MAX_COMMIT_WAIT: Duration = Duration::from_secs(2);
/// How long a slow server still counts as ready.
const SLOW_TIMEOUT: Duration = Duration::from_secs(5);

/// The state of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseState {
    /// Not checked yet.
    Unknown,
    /// It answers and fits.
    Ready,
    /// It does not answer. The cause is for operators.
    Unreachable(String),
    /// It answers, and commits wait for a synchronous standby. The cause is for operators.
    Blocked(String),
    /// It answers, but this service cannot work with it. The defects are for operators.
    Unfit(String),
}

/// The state that the monitor found. Clones share it.
#[derive(Clone)]
pub struct DatabaseMonitor {
    state: watch::Sender<DatabaseState>,
    ready_once: CancellationToken,
}

impl Default for DatabaseMonitor {
    fn default() -> Self {
        Self { state: watch::Sender::new(DatabaseState::Unknown), ready_once: CancellationToken::new() }
    }
}

impl DatabaseMonitor {
    /// The current state.
    #[must_use]
    pub fn state(&self) -> DatabaseState {
        self.state.borrow().clone()
    }

    /// Whether the database answers.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), DatabaseState::Ready | DatabaseState::Blocked(_) | DatabaseState::Unfit(_))
    }

    /// Whether the database was ready once and the master keys matched.
    #[must_use]
    pub fn was_ready(&self) -> bool {
        self.ready_once.is_cancelled()
    }

    /// Waits until [`was_ready`](Self::was_ready).
    pub async fn until_ready(&self) {
        self.ready_once.cancelled().await;
    }

    /// Checks periodically; never returns. If the master keys do not match before anything was served, that is reported once
    /// through `wrong_keys`.
    pub async fn run(self, store: Store, instance: Uuid, wrong_keys: mpsc::Sender<ConfigError>) {
        let failure = store.failure_signal();
        let mut log = StateLog { last: DatabaseState::Unknown, at: Instant::now() };
        let mut last_ready = Instant::now();
        let mut keys_checked = false;
        let mut waits = CommitWaits::default();
        loop {
            let began = Instant::now();
            let state = match check(&store, instance, keys_checked, &mut waits).await {
                Ok(()) => DatabaseState::Ready,
                Err(CheckError::Keys(wrong)) if !self.was_ready() => {
                    let _ending_already = wrong_keys.try_send(wrong);
                    return std::future::pending().await;
                }
                Err(CheckError::Keys(ConfigError(wrong))) => DatabaseState::Unfit(wrong.join("; ")),
                Err(CheckError::State(state)) => state,
            };
            if matches!(state, DatabaseState::Unreachable(_)) {
                metrics::gauge!(COMMIT_WAIT_METRIC).set(0.0);
            }
            let is_slow = began.elapsed() >= SLOW_CHECK && last_ready.elapsed() < SLOW_TIMEOUT;
            let is_ready = state == DatabaseState::Ready;
            if is_ready || !is_slow || self.state() != DatabaseState::Ready {
                log.record(&state);
                keys_checked = is_ready;
                if is_ready {
                    last_ready = Instant::now();
                    self.ready_once.cancel();
                }
                self.state.send_replace(state);
            }
            sleep(MIN_INTERVAL).await;
            let interval = if is_ready { POLL_INTERVAL } else { RETRY_DELAY };
            let _doubted_or_due = timeout(interval.saturating_sub(MIN_INTERVAL), failure.notified()).await;
        }
    }
}

enum CheckError {
    State(DatabaseState),
    Keys(ConfigError),
}

async fn check(store: &Store, instance: Uuid, keys_checked: bool, waits: &mut CommitWaits) -> Result<(), CheckError> {
    let unreachable =
        |error: crate::store::StoreError| CheckError::State(DatabaseState::Unreachable(error.to_string()));
    let wrong = store.schema_problems().await.map_err(unreachable)?;
    if !wrong.is_empty() {
        return Err(CheckError::State(DatabaseState::Unfit(wrong.join("; "))));
    }
    let (waiting, standbys) = store.waiting_commits().await.map_err(unreachable)?;
    let wait = waits.update(&waiting, Instant::now());
    metrics::gauge!(COMMIT_WAIT_METRIC).set(wait.as_secs_f64());
    let is_blocked = wait >= MAX_COMMIT_WAIT;
    store.block_commits(is_blocked);
    if is_blocked {
        return Err(CheckError::State(DatabaseState::Blocked(format!(
            "commits wait for a synchronous standby, which is away or too slow (synchronous_standby_names is '{standbys}')"
        ))));
    }
    if keys_checked {
        return Ok(());
    }
    // Registered first: a concurrent rewrap sees this service, or this service sees its result.
    store.register(instance).await.map_err(unreachable)?;
    let checked = store.check_master_keys().await.map_err(unreachable)?;
    checked.map_err(|wrong| CheckError::Keys(ConfigError(vec![format!("CONTENT_KEYS: {wrong}")])))
}

/// Logs the state at every change, and once per minute while the database is not ready.
struct StateLog {
    last: DatabaseState,
    at: Instant,
}

impl StateLog {
    fn record(&mut self, state: &DatabaseState) {
        let is_change = *state != self.last;
        if !is_change && (*state == DatabaseState::Ready || self.at.elapsed() < LOG_INTERVAL) {
            return;
        }
        match state {
            DatabaseState::Unknown => {}
            DatabaseState::Ready => tracing::info!("database ready"),
            DatabaseState::Unreachable(cause) => tracing::warn!(%cause, "database unreachable"),
            DatabaseState::Blocked(cause) => tracing::warn!(%cause, "database takes no commits"),
            DatabaseState::Unfit(cause) => tracing::warn!(%cause, "database unfit"),
        }
        self.last = state.clone();
        self.at = Instant::now();
    }
}

/// Runs a task once the database is ready, unless the shutdown begins earlier.
pub(crate) fn spawn_when_ready(
    shutdown: &shared::kit::shutdown::Shutdown,
    database: &DatabaseMonitor,
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) {
    let (database, ended) = (database.clone(), shutdown.clone());
    shutdown.spawn(name, async move {
        tokio::select! {
            () = database.until_ready() => {}
            () = ended.wait_for_begin() => return,
        }
        task.await;
    });
}
