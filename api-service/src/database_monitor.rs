//! Looks after the database, so that no request has to ask how it is: whether it answers, and whether it is one that this service can
//! work on. Readiness, the admin port and the log say what this task has seen.
//!
//! Nothing is served, and nothing is written, before the database was fit once and its keys were checked.

use std::time::Duration;

use shared::env::BadEnv;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::store::Store;

/// Between two looks.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The same, however often somebody doubts.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// Between two looks at a database that is not ready.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// How often the log repeats that it is not.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// A look that takes longer has met a server that is slow, not one that is gone.
const SLOW_CHECK: Duration = Duration::from_secs(1);
/// For so long a server may be slow until it counts as gone.
const SLOW_TIMEOUT: Duration = Duration::from_secs(5);

/// How the database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseState {
    /// Nobody has looked yet.
    Unknown,
    /// It answers, and fits.
    Ready,
    /// It does not answer. The cause is for operators.
    Unreachable(String),
    /// It answers, and this service cannot work on it. What is wrong is for operators.
    Unfit(String),
}

/// What is known of the database. Clones are one.
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
    /// How it is.
    #[must_use]
    pub fn state(&self) -> DatabaseState {
        self.state.borrow().clone()
    }

    /// Whether it answers.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), DatabaseState::Ready | DatabaseState::Unfit(_))
    }

    /// Whether it was ready once, and the keys that this service has are those of this database.
    #[must_use]
    pub fn was_ready(&self) -> bool {
        self.ready_once.is_cancelled()
    }

    /// Waits until it was.
    pub async fn until_ready(&self) {
        self.ready_once.cancelled().await;
    }

    /// Looks again and again; never returns. Keys that are not this database's are told to `wrong_keys`, once, when nothing was
    /// served yet.
    pub async fn run(self, store: Store, instance: Uuid, wrong_keys: mpsc::Sender<BadEnv>) {
        let failure = store.failure_signal();
        let mut log = StateLog { last: DatabaseState::Unknown, at: Instant::now() };
        let mut last_ready = Instant::now();
        let mut keys_checked = false;
        loop {
            let began = Instant::now();
            let state = match check(&store, instance, keys_checked).await {
                Ok(()) => DatabaseState::Ready,
                Err(CheckError::Keys(wrong)) if !self.was_ready() => {
                    let _ending_already = wrong_keys.try_send(wrong);
                    return std::future::pending().await;
                }
                Err(CheckError::Keys(BadEnv(wrong))) => DatabaseState::Unfit(wrong.join("; ")),
                Err(CheckError::State(state)) => state,
            };
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
    Keys(BadEnv),
}

async fn check(store: &Store, instance: Uuid, keys_checked: bool) -> Result<(), CheckError> {
    let unreachable =
        |error: crate::store::StoreError| CheckError::State(DatabaseState::Unreachable(error.to_string()));
    let wrong = store.schema_problems().await.map_err(unreachable)?;
    if !wrong.is_empty() {
        return Err(CheckError::State(DatabaseState::Unfit(wrong.join("; "))));
    }
    if keys_checked {
        return Ok(());
    }
    // Before the look: whoever wraps keys anew meanwhile sees this service, or is seen by it.
    store.register(instance).await.map_err(unreachable)?;
    let checked = store.check_master_keys().await.map_err(unreachable)?;
    checked.map_err(|wrong| CheckError::Keys(BadEnv(vec![format!("CONTENT_KEYS: {wrong}")])))
}

/// Says in the log how the database is: at every change, and once a minute while it is not ready.
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
            DatabaseState::Ready => tracing::info!("the database is ready"),
            DatabaseState::Unreachable(cause) => tracing::warn!(%cause, "not ready: the database does not answer"),
            DatabaseState::Unfit(cause) => tracing::warn!(%cause, "not ready: the database does not fit this service"),
        }
        self.last = state.clone();
        self.at = Instant::now();
    }
}

/// Runs a task once the database was ready; a shutdown before that ends it.
pub(crate) fn spawn_when_ready(
    shutdown: &shared::shutdown::Shutdown,
    database: &DatabaseMonitor,
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) {
    let (database, ended) = (database.clone(), shutdown.clone());
    shutdown.spawn(name, async move {
        tokio::select! {
            () = database.until_ready() => {}
            () = ended.begun() => return,
        }
        task.await;
    });
}
