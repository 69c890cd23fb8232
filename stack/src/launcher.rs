//! How every program of a system is started: marked with the data folder, watched, and its changes noted.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use tokio::sync::Notify;

use crate::program::{DATA_DIR_VAR, Program};
use crate::supervisor::Supervisor;

/// Starts programs. Clones start programs of the same system.
#[derive(Debug, Clone)]
pub(crate) struct Launcher {
    data_dir: PathBuf,
    changed: Arc<Notify>,
}

impl Launcher {
    pub(crate) fn new(data_dir: PathBuf) -> Self {
        Self { data_dir, changed: Arc::default() }
    }

    /// The program with the mark by which `orphans` finds it.
    pub(crate) fn mark(&self, program: Program) -> Program {
        program.env(DATA_DIR_VAR, self.data_dir.to_string_lossy())
    }

    /// Starts a program that is to keep running.
    pub(crate) fn supervise(&self, program: Program) -> Result<Supervisor> {
        Supervisor::start(self.mark(program), self.changed.clone())
    }

    /// Returns when a supervised program was restarted, or has ended for good.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}
