//! When to stop: SIGINT, SIGTERM, SIGHUP, or the end of standard input.
//! Counts, because a second signal means "at once".

use std::io::Read;

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The requests to stop so far.
#[derive(Debug, Clone)]
pub(crate) struct StopSignal {
    requests: watch::Receiver<u32>,
}

impl StopSignal {
    /// Listens from now on. From here a signal no longer kills this process.
    pub(crate) fn listen(until_stdin_closes: bool) -> Result<Self> {
        let (sender, requests) = watch::channel(0);
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let (mut signals, sender) = (signal(kind)?, sender.clone());
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    sender.send_modify(|requests| *requests += 1);
                }
            });
        }
        if until_stdin_closes {
            // A plain thread: a read cannot be cancelled, and the runtime would wait for it at its end.
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                while matches!(std::io::stdin().read(&mut buffer), Ok(1..)) {}
                sender.send_modify(|requests| *requests = (*requests).max(1));
            });
        }
        Ok(Self { requests })
    }

    /// Returns at the first request to stop.
    pub(crate) async fn first(&mut self) {
        self.received(1).await;
    }

    /// Returns at the second one, which means "at once".
    pub(crate) async fn second(&mut self) {
        self.received(2).await;
    }

    async fn received(&mut self, count: u32) {
        if self.requests.wait_for(|requests| *requests >= count).await.is_err() {
            std::future::pending::<()>().await; // Every listener is gone: no request can come.
        }
    }
}
