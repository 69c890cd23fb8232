//! The PostgreSQL that is installed here: which binaries to use, and as which account.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::unistd::{User, geteuid};

use crate::program;

/// Oldest server that the migrations and queries are written for.
const MIN_MAJOR_VERSION: u32 = 14;

/// PostgreSQL refuses to run as root: an unprivileged account then, else none (the caller's own).
pub(super) fn account() -> Result<Option<User>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(user));
        }
    }
    bail!("PostgreSQL does not run as root, and there is no account `postgres` or `nobody` to run it as")
}

/// Version of the server that made the data folder; none when there is no database in it yet.
pub(super) fn existing_major(folder: &Path) -> Result<Option<u32>> {
    match fs::read_to_string(folder.join("PG_VERSION")) {
        Ok(text) => Ok(Some(text.trim().parse().context("PG_VERSION of the data folder is no number")?)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", folder.display())),
    }
}

/// The folder of `postgres` and `initdb`: of exactly this version when there is a database already,
/// else the one in `PATH`, else the newest of Debian's.
pub(super) fn binaries(wanted: Option<u32>) -> Result<PathBuf> {
    let in_path = program::find("postgres").and_then(|file| file.canonicalize().ok()?.parent().map(Path::to_path_buf));
    let mut debian: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    debian.sort_unstable();
    let folders = in_path.into_iter().chain(debian.into_iter().rev().map(|(_, folder)| folder));
    let complete = folders
        .filter(|folder| ["postgres", "initdb", "psql"].iter().all(|name| program::is_executable(&folder.join(name))));
    let found: Vec<(u32, PathBuf)> = complete.filter_map(|folder| Some((major(&folder)?, folder))).collect();
    match wanted {
        Some(wanted) => found.into_iter().find(|(major, _)| *major == wanted).map(|(_, folder)| folder).with_context(|| {
            format!("the database in the data folder was made by PostgreSQL {wanted}, which is not here any more; `make reset` drops it")
        }),
        None => found
            .into_iter()
            .find(|(major, _)| *major >= MIN_MAJOR_VERSION)
            .map(|(_, folder)| folder)
            .with_context(|| format!("PostgreSQL {MIN_MAJOR_VERSION} or newer is not installed; scripts/install does it")),
    }
}

pub(super) fn major(folder: &Path) -> Option<u32> {
    let output = std::process::Command::new(folder.join("postgres")).arg("--version").output().ok()?;
    parse_major(&String::from_utf8_lossy(&output.stdout))
}

/// `postgres (PostgreSQL) 15.18 (Debian …)` → 15.
fn parse_major(version: &str) -> Option<u32> {
    let number = version.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn major_version_is_parsed_from_binary_output() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(parse_major("something else"), None);
    }
}
