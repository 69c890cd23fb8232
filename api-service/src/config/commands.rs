//! What each command of the binary reads: never more than it needs.

use std::net::SocketAddr;

use shared::contract::token::settings::{self, JWT_SECRET};
use shared::kit::crypto::key_ring::KeyRing;
use shared::kit::env::{ConfigError, Env, Secret};

use super::listen::ADMIN_ADDR;
use crate::audit::settings::{AuditKey, read_audit_keys, read_own_audit_key};
use crate::envelope::settings::{CONTENT_KEYS, read_content_keys};
use crate::store::settings::{DATABASE_SERVICE_ROLE, DatabaseConfig, Role, read_database};

/// For `migrate`: the database, and the role of the service.
///
/// # Errors
/// [`ConfigError`] with every mistake.
pub fn migrate(mut env: Env) -> Result<(DatabaseConfig, Option<Role>), ConfigError> {
    let database = read_database(&mut env);
    let role = env.read_optional(&DATABASE_SERVICE_ROLE);
    database.zip(role).ok_or_else(|| env.into_error())
}

/// For commands that work on the database: each writes an audit entry.
///
/// # Errors
/// [`ConfigError`] with every mistake.
pub fn audit(mut env: Env) -> Result<(DatabaseConfig, AuditKey), ConfigError> {
    let database = read_database(&mut env);
    let key = read_own_audit_key(&mut env);
    database.zip(key).ok_or_else(|| env.into_error())
}

/// For `revoke`: the database, the audit key, and the maximum lifetime of a token in seconds.
///
/// # Errors
/// [`ConfigError`] with every mistake.
pub fn revoke(mut env: Env) -> Result<(DatabaseConfig, AuditKey, i64), ConfigError> {
    let database = read_database(&mut env);
    let key = read_own_audit_key(&mut env);
    let max_lifetime = settings::read_max_lifetime(&mut env);
    let read = (|| Some((database?, key?, max_lifetime?)))();
    read.ok_or_else(|| env.into_error())
}

/// The maximum lifetime of a token, in seconds.
///
/// # Errors
/// [`ConfigError`]
pub fn max_lifetime(mut env: Env) -> Result<i64, ConfigError> {
    settings::read_max_lifetime(&mut env).ok_or_else(|| env.into_error())
}

/// For `audit verify`: the database, all audit keys, and the content keys if they are set.
///
/// # Errors
/// [`ConfigError`] with every mistake.
pub fn verify(mut env: Env) -> Result<(DatabaseConfig, Vec<AuditKey>, Option<KeyRing>), ConfigError> {
    let database = read_database(&mut env);
    let keys = read_audit_keys(&mut env);
    let content = read_content_keys(&mut env);
    let read = (|| Some((database?, keys?, content?)))();
    read.ok_or_else(|| env.into_error())
}

/// For `audit export`: the database and all audit keys. The first key signs the entry of the export.
///
/// # Errors
/// [`ConfigError`] with every mistake.
pub fn export(mut env: Env) -> Result<(DatabaseConfig, Vec<AuditKey>), ConfigError> {
    let database = read_database(&mut env);
    let keys = read_audit_keys(&mut env);
    database.zip(keys).ok_or_else(|| env.into_error())
}

/// For `keys`.
///
/// # Errors
/// [`ConfigError`] with every mistake.
pub fn keys(mut env: Env) -> Result<(DatabaseConfig, AuditKey, KeyRing), ConfigError> {
    let database = read_database(&mut env);
    let audit_key = read_own_audit_key(&mut env);
    let content = read_content_keys(&mut env);
    if matches!(content, Some(None)) {
        env.add_error(&CONTENT_KEYS, "is required");
    }
    let keys = (|| Some((database?, audit_key?, content??)))();
    keys.ok_or_else(|| env.into_error())
}

/// For the health check.
///
/// # Errors
/// [`ConfigError`] with every mistake.
pub fn admin(mut env: Env) -> Result<SocketAddr, ConfigError> {
    env.read(&ADMIN_ADDR).ok_or_else(|| env.into_error())
}

/// For `token`.
///
/// # Errors
/// [`ConfigError`] with every mistake.
pub fn secret(mut env: Env) -> Result<Secret, ConfigError> {
    let secret = settings::read_secret(&mut env, |_| Ok(()));
    if let Some(None) = secret {
        env.add_error(&JWT_SECRET, "is required");
    }
    secret.flatten().ok_or_else(|| env.into_error())
}
