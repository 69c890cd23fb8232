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
pub fn migrate(env: Env) -> Result<(DatabaseConfig, Option<Role>), ConfigError> {
    env.complete(read_migrate)
}

fn read_migrate(env: &mut Env) -> Option<(DatabaseConfig, Option<Role>)> {
    let database = read_database(env);
    let role = env.read_optional(&DATABASE_SERVICE_ROLE);
    database.zip(role)
}

/// For commands that work on the database: each writes an audit entry.
///
/// # Errors
/// [`ConfigError`] with every mistake.
pub fn audit(env: Env) -> Result<(DatabaseConfig, AuditKey), ConfigError> {
    env.complete(read_audit)
}

fn read_audit(env: &mut Env) -> Option<(DatabaseConfig, AuditKey)> {
    let database = read_database(env);
    let key = read_own_audit_key(env);
    database.zip(key)
}

/// For `revoke`: the database, the audit key, and the maximum lifetime of a token in seconds.
///
/// # Errors
/// [`ConfigError`] with every mistake.
pub fn revoke(env: Env) -> Result<(DatabaseConfig, AuditKey, i64), ConfigError> {
    env.complete(read_revoke)
}

fn read_revoke(env: &mut Env) -> Option<(DatabaseConfig, AuditKey, i64)> {
    let database = read_database(env);
    let key = read_own_audit_key(env);
    let max_lifetime = settings::read_max_lifetime(env);
    Some((database?, key?, max_lifetime?))
}

/// The maximum lifetime of a token, in seconds.
///
/// # Errors
/// [`ConfigError`]
pub fn max_lifetime(env: Env) -> Result<i64, ConfigError> {
    env.complete(settings::read_max_lifetime)
}

/// For `audit verify`: the database, all audit keys, and the content keys if they are set.
///
/// # Errors
/// [`ConfigError`] with every mistake.
pub fn verify(env: Env) -> Result<(DatabaseConfig, Vec<AuditKey>, Option<KeyRing>), ConfigError> {
    env.complete(read_verify)
}

fn read_verify(env: &mut Env) -> Option<(DatabaseConfig, Vec<AuditKey>, Option<KeyRing>)> {
    let database = read_database(env);
    let keys = read_audit_keys(env);
    let content = read_content_keys(env);
    Some((database?, keys?, content?))
}

/// For `audit export`: the database and all audit keys. The first key signs the entry of the export.
///
/// # Errors
/// [`ConfigError`] with every mistake.
pub fn export(env: Env) -> Result<(DatabaseConfig, Vec<AuditKey>), ConfigError> {
    env.complete(read_export)
}

fn read_export(env: &mut Env) -> Option<(DatabaseConfig, Vec<AuditKey>)> {
    let database = read_database(env);
    let keys = read_audit_keys(env);
    database.zip(keys)
}

/// For `keys`.
///
/// # Errors
/// [`ConfigError`] with every mistake.
pub fn keys(env: Env) -> Result<(DatabaseConfig, AuditKey, KeyRing), ConfigError> {
    env.complete(read_keys)
}

fn read_keys(env: &mut Env) -> Option<(DatabaseConfig, AuditKey, KeyRing)> {
    let database = read_database(env);
    let audit_key = read_own_audit_key(env);
    let content = read_content_keys(env);
    if matches!(content, Some(None)) {
        env.add_error(&CONTENT_KEYS, "is required");
    }
    Some((database?, audit_key?, content??))
}

/// For the health check.
///
/// # Errors
/// [`ConfigError`] with every mistake.
pub fn admin(env: Env) -> Result<SocketAddr, ConfigError> {
    env.complete(|env| env.read(&ADMIN_ADDR))
}

/// For `token`.
///
/// # Errors
/// [`ConfigError`] with every mistake.
pub fn secret(env: Env) -> Result<Secret, ConfigError> {
    env.complete(read_secret)
}

fn read_secret(env: &mut Env) -> Option<Secret> {
    let secret = settings::read_secret(env, |_| Ok(()));
    if let Some(None) = secret {
        env.add_error(&JWT_SECRET, "is required");
    }
    secret.flatten()
}

/// Asks for the settings of every command, for the list of `--help`.
pub(super) fn read_all(env: &mut Env) {
    let _incomplete = (read_migrate(env), read_revoke(env), read_verify(env), read_export(env), read_keys(env));
    let _incomplete = (read_audit(env), read_secret(env));
}
