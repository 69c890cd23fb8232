//! The folder that holds all that a system keeps: `.local`, or a test's temporary one.
//! Owns its lock (one system at a time), its logs folder, and its removal.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::User;

/// Larger logs are emptied at the next start.
const MAX_LOG_BYTES: u64 = 16 * 1024 * 1024;

/// Of the PostgreSQL servers: one, or the two of a pair.
pub(crate) const POSTGRES_FOLDERS: [&str; 2] = ["postgres", "postgres-2"];
/// Describes the running system; see `stack_env`.
pub(crate) const ENV_FILE: &str = "stack.env";
/// Locked by the running stack; holds its process id.
pub(crate) const LOCK_FILE: &str = "lock";

/// A data folder that this process holds the lock of.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// The folder's absolute path; made when there is none.
    pub(crate) fn create(path: &Path) -> Result<PathBuf> {
        // Others may pass through (PostgreSQL's account must), but not look around.
        DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(path)
            .and_then(|()| path.canonicalize())
            .with_context(|| format!("cannot create {}", path.display()))
    }

    /// Makes the folder if need be, and takes its lock.
    ///
    /// # Errors
    /// When another system runs on it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let path = Self::create(path)?;
        let file = path.join(LOCK_FILE);
        let mut lock = File::options()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(&file)
            .with_context(|| format!("cannot open {}", file.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&file).unwrap_or_default();
                bail!("a stack already runs on {} (process {})", path.display(), holder.trim());
            }
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the data folder"),
        }
        // What a killed stack said is no longer true. Removed before our process id stands in the lock:
        // who finds that id there knows that `stack.env` is ours.
        remove_file(&path.join(ENV_FILE))?;
        lock.set_len(0)?;
        write!(lock, "{}", std::process::id())?;
        let opened = Self { path, _lock: lock };
        opened.prepare_logs()?;
        Ok(opened)
    }

    fn prepare_logs(&self) -> Result<()> {
        let logs = self.logs();
        fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
        for entry in fs::read_dir(&logs)? {
            let entry = entry?;
            if entry.metadata()?.len() > MAX_LOG_BYTES {
                File::options().write(true).truncate(true).open(entry.path())?;
            }
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    /// Where the files of a PostgreSQL server are: in this folder when `account` can reach it, else in `/var/tmp`
    /// (a checkout in `/root`), with a link here that `make reset` follows.
    pub(crate) fn postgres(&self, name: &str, account: Option<&User>) -> Result<PathBuf> {
        let here = self.join(name);
        let Some(account) = account else { return Ok(here) };
        let mut hasher = DefaultHasher::new();
        self.path.hash(&mut hasher);
        let elsewhere = PathBuf::from(format!("/var/tmp/ehr-chat-{:016x}-{name}", hasher.finish()));
        match fs::read_link(&here) {
            Ok(target) if target == elsewhere => return Ok(target),
            // This folder is a copy of another, whose database is not ours to use.
            Ok(_) => remove_file(&here)?,
            Err(_) if here.exists() || self.is_within_reach_of(account)? => return Ok(here),
            Err(_) => {}
        }
        if let Ok(found) = fs::symlink_metadata(&elsewhere) {
            ensure!(
                found.is_dir() && found.uid() == account.uid.as_raw(),
                "{} is in the way, and not ours; remove it",
                elsewhere.display()
            );
            remove_tree(&elsewhere)?; // Of a data folder that was removed by hand, with its password.
        }
        std::os::unix::fs::symlink(&elsewhere, &here).context("cannot link PostgreSQL's data folder")?;
        Ok(elsewhere)
    }

    fn is_within_reach_of(&self, account: &User) -> Result<bool> {
        for folder in self.path.ancestors() {
            let found = fs::metadata(folder)?;
            let owner = (found.uid(), found.gid());
            if !may_pass(found.mode(), owner, (account.uid.as_raw(), account.gid.as_raw())) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes the folder, and PostgreSQL's where they lie elsewhere.
    pub(crate) fn remove(self) -> Result<()> {
        for name in POSTGRES_FOLDERS {
            if let Ok(elsewhere) = fs::read_link(self.join(name)) {
                remove_tree(&elsewhere)?;
            }
        }
        remove_tree(&self.path)
    }
}

/// Removes a file that may not be there.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// True when an account may pass through a folder with these permission bits and this owner.
fn may_pass(mode: u32, (owner, group): (u32, u32), (uid, gid): (u32, u32)) -> bool {
    let bit = match () {
        () if uid == owner => 0o100,
        () if gid == group => 0o010,
        () => 0o001,
    };
    mode & bit != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_matching_class_decides_access() {
        let postgres = (101, 104);
        assert!(may_pass(0o711, (0, 0), postgres));
        assert!(!may_pass(0o700, (0, 0), postgres));
        assert!(may_pass(0o700, (101, 0), postgres));
        assert!(may_pass(0o710, (0, 104), postgres));
        assert!(!may_pass(0o701, (0, 104), postgres));
    }

    #[test]
    fn second_lock_holder_is_rejected_with_pid_of_first() {
        let path = std::env::temp_dir().join(format!("stack-lock-{}", std::process::id()));
        let first = DataDir::open(&path).unwrap();
        let error = DataDir::open(&path).unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        first.remove().unwrap();
        assert!(!path.exists());
    }
}
