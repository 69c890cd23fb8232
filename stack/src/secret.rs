//! Secrets of a development system: random, made once, kept in files only their owner can read.
//! Refuses to overwrite one that exists, so that tokens and databases outlive a restart.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::data_dir::remove_file;

/// Shortest `JWT_SECRET` and `AUDIT_KEY` that are accepted, in bytes: the output size of SHA-256 (RFC 7518, 3.2).
pub(crate) const KEY_MIN_BYTES: usize = 32;

/// `N` bytes of the system's randomness.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).context("cannot read /dev/urandom")?;
    Ok(bytes)
}

/// `N` random bytes in lower-case hexadecimal.
pub(crate) fn random_hex<const N: usize>() -> Result<String> {
    Ok(random_bytes::<N>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// How the key of the tokens begins, so that no service takes it in production (`shared::kit::env::mode`).
const DEVELOPMENT_PREFIX: &str = "development-";

/// The secret in `path`; a new one of 64 hexadecimal digits when there is none yet.
pub(crate) fn load_or_create(path: &Path) -> Result<String> {
    load_or_create_behind("", path)
}

fn load_or_create_behind(prefix: &str, path: &Path) -> Result<String> {
    match fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
        _ => {}
    }
    let secret = format!("{prefix}{}", random_hex::<32>()?);
    write_private(path, &format!("{secret}\n"))?;
    Ok(secret)
}

/// The signing key of this system: what the caller configured, else the one in `path`.
///
/// # Errors
/// When the configured secret is shorter than [`KEY_MIN_BYTES`], or `path` is out of reach.
pub(crate) fn jwt_secret(configured: Option<&str>, path: &Path) -> Result<String> {
    key("JWT_SECRET", configured, path)
}

/// The key of this system's audit trail: what the caller configured, else the one in `path`.
///
/// # Errors
/// As [`jwt_secret`].
pub(crate) fn audit_key(configured: Option<&str>, path: &Path) -> Result<String> {
    key("AUDIT_KEY", configured, path)
}

fn key(variable: &str, configured: Option<&str>, path: &Path) -> Result<String> {
    let secret = match configured.filter(|secret| !secret.is_empty()) {
        Some(secret) => secret.to_owned(),
        None => load_or_create_behind(DEVELOPMENT_PREFIX, path)?,
    };
    ensure!(secret.len() >= KEY_MIN_BYTES, "{variable} must have at least {KEY_MIN_BYTES} bytes, not {}", secret.len());
    Ok(secret)
}

/// Replaces `path` in one step by a file that only its owner can read.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    let next = path.with_extension("next");
    remove_file(&next)?;
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&next, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn scratch(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("stack-secret-{}-{name}", std::process::id()));
        let _ = fs::remove_file(&path);
        path
    }

    #[test]
    fn secret_is_created_once_for_its_owner() {
        let path = scratch("once");
        let first = load_or_create(&path).unwrap();
        assert_eq!(first.len(), 64);
        assert_eq!(load_or_create(&path).unwrap(), first);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn token_key_has_development_prefix() {
        let path = scratch("development");
        let made = jwt_secret(None, &path).unwrap();
        assert!(made.starts_with("development-") && made.len() == 76, "{made}");
        assert_eq!(jwt_secret(Some(""), &path).unwrap(), made);
        // One of an older checkout is kept.
        fs::write(&path, "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9\n").unwrap();
        assert!(jwt_secret(None, &path).unwrap().starts_with("0a1b"));
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn configured_secret_wins_unless_short() {
        let path = scratch("configured");
        let long = "x".repeat(KEY_MIN_BYTES);
        assert_eq!(jwt_secret(Some(&long), &path).unwrap(), long);
        let error = jwt_secret(Some("short"), &path).unwrap_err().to_string();
        assert!(error.contains("32 bytes") && !error.contains("short"), "{error}");
        assert!(!path.exists());
    }
}
