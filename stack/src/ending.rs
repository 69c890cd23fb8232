//! When to stop: SIGINT, SIGTERM, SIGHUP, or the end of standard input.
//! Counts, because a second signal means "at once".

use std::io::Read;

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The wishes to stop so far.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    wishes: watch::Receiver<u32>,
}

impl Ending {
    /// Listens from now on. From here a signal no longer kills this process.
    pub(crate) fn listen(until_stdin_closes: bool) -> Result<Self> {
        let (sender, wishes) = watch::channel(0);
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let (mut signals, sender) = (signal(kind)?, sender.clone());
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    sender.send_modify(|wishes| *wishes += 1);
                }
            });
        }
        if until_stdin_closes {
            // A plain thread: a read cannot be cancelled, and the runtime would wait for it at its end.
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                while matches!(std::io::stdin().read(&mut buffer), Ok(1..)) {}
                sender.send_modify(|wishes| *wishes = (*wishes).max(1));
            });
        }
        Ok(Self { wishes })
    }

    /// Returns at the first wish to stop.
    pub(crate) async fn wished(&mut self) {
        self.reached(1).await;
    }

    /// Returns at the second one: somebody is impatient.
    pub(crate) async fn insisted(&mut self) {
        self.reached(2).await;
    }

    async fn reached(&mut self, count: u32) {
        if self.wishes.wait_for(|wishes| *wishes >= count).await.is_err() {
            std::future::pending::<()>().await; // Every listener is gone: no wish can come.
        }
    }
}
