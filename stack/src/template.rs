//! The data folder of a fresh PostgreSQL server, made once and copied for every temporary system after that:
//! `initdb` takes longer than all the rest of a start. It lies beside this binary, so `cargo clean` removes it.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::program::{Program, find};
use crate::secret::load_or_create;

/// A template, which may not be there yet. Other processes wait for its lock.
#[derive(Debug)]
pub(crate) struct Template {
    /// The data folder.
    pub folder: PathBuf,
    /// Of the owner of every database that is copied from it.
    pub password: String,
    _lock: File,
}

impl Template {
    /// The one for this major version of the server.
    pub(crate) async fn lock(major: u32) -> Result<Self> {
        let own = std::env::current_exe()?;
        let base = own.parent().context("this binary has no folder")?.join(format!("postgres-template-{major}"));
        let path = base.with_extension("lock");
        let file = File::options().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        let lock = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await??;
        Ok(Self { password: load_or_create(&base.with_extension("password"))?, folder: base, _lock: lock })
    }

    pub(crate) fn exists(&self) -> bool {
        self.folder.exists()
    }

    /// Keeps a copy of this data folder as the template.
    pub(crate) async fn save(&self, made: &Path, log: &Path) -> Result<()> {
        let next = self.folder.with_extension("new");
        let _ = std::fs::remove_dir_all(&next);
        copy(made, &next, log).await?;
        std::fs::rename(&next, &self.folder).context("cannot move the template to its place")
    }

    /// A data folder like it.
    pub(crate) async fn copy_to(&self, folder: &Path, log: &Path) -> Result<()> {
        copy(&self.folder, folder, log).await
    }
}

/// With owners and permissions: PostgreSQL insists on its own.
async fn copy(from: &Path, to: &Path, log: &Path) -> Result<()> {
    let cp = find("cp").context("cp is not installed")?;
    Program::new("copy", cp, log.to_path_buf())
        .args(["--archive", "--no-target-directory"])
        .args([from, to])
        .complete()
        .await
}
