//! A connection to each Sentinel: asks for the master several times per second, and at once when the Sentinel reports a switch.

use std::sync::Arc;
use std::time::Duration;

use fred::error::{Error, ErrorKind};
use fred::interfaces::{EventInterface, PubsubInterface};
use fred::types::config::Server;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use super::view::{self, SentinelView};
use crate::kit::redis::connection::SentinelOptions;
use crate::kit::redis::health::connect_error;
use crate::kit::telemetry::log_throttle::LogThrottle;

/// Between two questions to a Sentinel.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Between two attempts to connect to a Sentinel; doubled each time.
const MIN_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(1);
/// A connection that has lasted so long was a good one.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// Sentinels that wait longer before they replace a master make events late, and unreplicated ones may miss live sockets: see
/// `super::replication`.
const MAX_DOWN_AFTER: Duration = Duration::from_secs(5);
const SWITCH_CHANNEL: &str = "+switch-master";

/// Which master the Sentinels name.
pub(super) struct SentinelMonitor {
    options: Arc<SentinelOptions>,
    state: Mutex<State>,
    announced: watch::Sender<Option<SentinelView>>,
    poll_requested: Notify,
}

struct State {
    /// One per Sentinel; `None` while it does not answer.
    views: Vec<Option<SentinelView>>,
    /// The last one that was announced.
    known: Option<SentinelView>,
    has_warned_of_down_after: bool,
}

impl SentinelMonitor {
    pub(super) fn new(options: Arc<SentinelOptions>) -> Self {
        let state = State { views: vec![None; options.servers.len()], known: None, has_warned_of_down_after: false };
        Self { options, state: Mutex::new(state), announced: watch::Sender::new(None), poll_requested: Notify::new() }
    }

    /// The view that counts; `None` while no Sentinel answers that may be believed.
    pub(super) fn announced(&self) -> watch::Receiver<Option<SentinelView>> {
        self.announced.subscribe()
    }

    /// Forgets the answers and asks again: they may be from before the master was lost.
    pub(super) fn ask_again(&self) {
        let mut state = self.state.lock();
        state.views.fill(None);
        self.announced.send_replace(None);
        drop(state);
        self.poll_requested.notify_waiters();
    }

    /// Asks all Sentinels, again and again. Never returns.
    pub(super) async fn run(&self) {
        join_all(self.options.servers.iter().enumerate().map(|(index, server)| self.stay_connected(index, server)))
            .await;
    }

    async fn stay_connected(&self, index: usize, server: &Server) {
        let mut backoff = MIN_BACKOFF;
        let failures = LogThrottle::default();
        loop {
            let began = Instant::now();
            let Err(error) = self.follow(index, server).await;
            self.record(index, None);
            if let Some(times) = failures.record(1) {
                tracing::warn!(sentinel = %server, times, error = self.describe(&error), "a Redis Sentinel does not name the master");
            }
            if began.elapsed() > STABLE_AFTER {
                backoff = MIN_BACKOFF;
            }
            sleep(backoff).await;
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }

    /// Asks one Sentinel until it fails.
    async fn follow(&self, index: usize, server: &Server) -> Result<std::convert::Infallible, Error> {
        let patience = self.options.connection.timeout();
        let connecting = self.options.connection.connect_once(server.clone());
        let silent = |_| Error::new(ErrorKind::Timeout, "it does not answer in time");
        let sentinel = timeout(2 * patience, connecting).await.map_err(silent)??;
        let mut switched = sentinel.client.message_rx();
        timeout(patience, sentinel.client.subscribe(SWITCH_CHANNEL)).await.map_err(silent)??;
        loop {
            let asking = view::fetch(&sentinel.client, &self.options.master_name);
            let view = timeout(patience, asking).await.map_err(silent)??;
            self.record(index, Some(view));
            tokio::select! {
                // Of any master, this one or another. Lost ones do no harm: the next question is near.
                _ = switched.recv() => {}
                () = self.poll_requested.notified() => {}
                () = sleep(POLL_INTERVAL) => {}
            }
        }
    }

    fn record(&self, index: usize, view: Option<SentinelView>) {
        let mut state = self.state.lock();
        if let Some(SentinelView { down_after, .. }) = &view
            && *down_after > MAX_DOWN_AFTER
            && !state.has_warned_of_down_after
        {
            state.has_warned_of_down_after = true;
            let (down_after_ms, at_most_ms) = (down_after.as_millis() as u64, MAX_DOWN_AFTER.as_millis() as u64);
            tracing::warn!(down_after_ms, at_most_ms, "down-after-milliseconds of the Redis Sentinels is high");
        }
        state.views[index] = view;
        let chosen = view::choose(state.known.as_ref(), &state.views);
        if chosen.is_some() {
            state.known.clone_from(&chosen);
        }
        self.announced.send_if_modified(|announced| {
            let is_changed = *announced != chosen;
            *announced = chosen;
            is_changed
        });
    }

    /// What is safe to log.
    fn describe(&self, error: &Error) -> String {
        let details = error.details();
        if details.starts_with("ERR No such master") {
            return format!("it knows no master of the name {:?} (sentinelServiceName)", self.options.master_name);
        }
        match details.split_whitespace().next() {
            Some(code @ ("WRONGPASS" | "NOAUTH" | "NOPERM")) => {
                format!("it rejects sentinelUsername or sentinelPassword ({code})")
            }
            _ => connect_error(error),
        }
    }
}
