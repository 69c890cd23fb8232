//! All settings of `serve`, collected from the modules that own them. Every setting is declared once, and all errors are reported
//! together.

mod commands;
mod listen;
#[cfg(test)]
mod tests;

use shared::contract::http::allowed_origins::AllowedOrigins;
use shared::contract::http::request::{TRUSTED_PROXIES, TrustedProxies};
use shared::contract::insecure_settings;
use shared::contract::token::TokenConfig;
use shared::contract::token::settings as token_settings;
use shared::kit::crypto::key_ring::{RELAY_KEYS, reject_weak_keys};
use shared::kit::env::mode::{MODE, Mode};
use shared::kit::env::{ConfigError, Env, Secret, Setting};
use shared::kit::redis::RedisLink;
use shared::kit::telemetry::trace::TraceConfig;
use shared::kit::telemetry::{self, LogFormat};

use crate::audit::settings::{AUDIT_KEY, AuditKey, check_audit_key, read_audit_key};
use crate::envelope::settings::{self as encryption, CONTENT_KEYS, EncryptionConfig};
use crate::limits::rate_limit::RateLimitConfig;
use crate::outbox::settings::{self as outbox_settings, EventLogConfig};
use crate::store::settings::{DatabaseConfig, ReplicaConfig, read_database, read_replica};
pub use commands::{admin, audit, export, keys, max_lifetime, migrate, revoke, secret, verify};
pub use listen::ListenConfig;

const LOG_FORMAT: Setting = Setting { name: "LOG_FORMAT", default: Some("json"), help: "json or text" };
const LOG_LEVEL: Setting = Setting {
    name: "LOG_LEVEL",
    default: Some("info"),
    help: "error, warn, info, debug or trace, or tracing directives",
};

/// The configuration of `serve`.
#[derive(Debug, Clone)]
pub struct Config {
    /// Both ports.
    pub listen: ListenConfig,
    /// Proxies whose `X-Forwarded-*` and `traceparent` headers are trusted.
    pub trusted_proxies: TrustedProxies,
    /// PostgreSQL.
    pub database: DatabaseConfig,
    /// A replica of it that answers reads.
    pub replica: Option<ReplicaConfig>,
    /// Redis.
    pub redis: RedisLink,
    /// Keys of content at rest and in Redis.
    pub encryption: EncryptionConfig,
    /// How tokens are verified.
    pub tokens: TokenConfig,
    /// The collector of traces.
    pub traces: Option<TraceConfig>,
    /// Rate limits per caller.
    pub limits: RateLimitConfig,
    /// Origins whose pages may call the API.
    pub origins: AllowedOrigins,
    /// Signs tokens for the console; in development mode only.
    pub dev_signing_key: Option<Secret>,
    /// The key of the audit trail.
    pub audit_key: AuditKey,
    /// Bounds of a conversation's event log in Redis.
    pub event_log: EventLogConfig,
    /// Format of log lines.
    pub log_format: LogFormat,
    /// Filter of log lines.
    pub log_level: String,
    /// Production or development.
    pub mode: Mode,
    /// Warnings about insecure settings that are permitted.
    pub warnings: Vec<String>,
}

/// Every setting, for `--help`: those that [`serve`] or a command asks for.
#[must_use]
pub fn settings() -> Vec<Setting> {
    let mut env = Env::from_fn(|_| None);
    let _incomplete = read_all(&mut env);
    commands::read_all(&mut env);
    env.settings().to_vec()
}

/// Reads the configuration of `serve`.
///
/// # Errors
/// [`ConfigError`] with every mistake.
pub fn serve(env: Env) -> Result<Config, ConfigError> {
    env.complete(|env| {
        let config = read_all(env);
        env.reject_unknown(&settings());
        config
    })
}

fn read_all(env: &mut Env) -> Option<Config> {
    let database = read_database(env);
    let replica = read_replica(env, database.as_ref());
    let redis = RedisLink::read(env);
    let encryption = encryption::read(env);
    let mode: Option<Mode> = env.read(&MODE);
    let tokens = token_settings::read(env, mode.unwrap_or_default());
    let audit_key = match (&tokens, env.read_optional::<Secret>(&AUDIT_KEY)) {
        // Without a token secret it is unknown whether the audit key could be derived: one error is enough.
        (None, Some(None)) if mode != Some(Mode::Production) => None,
        _ => {
            let jwt_secret = tokens.as_ref().and_then(|tokens| tokens.secret.as_ref());
            read_audit_key(env, mode.unwrap_or_default(), jwt_secret)
        }
    };
    let secret = tokens.as_ref().and_then(|tokens| tokens.secret.as_ref());
    check_audit_key(env, mode.unwrap_or_default(), secret);
    let content = encryption.as_ref().and_then(|keys| keys.content.as_ref());
    reject_weak_keys(env, &CONTENT_KEYS, content, mode.unwrap_or_default());
    let relay = encryption.as_ref().and_then(|keys| keys.relay.as_ref());
    reject_weak_keys(env, &RELAY_KEYS, relay, mode.unwrap_or_default());
    let origins = AllowedOrigins::read(env, mode.unwrap_or_default());
    let listen = listen::read(env);
    let trusted_proxies = env.read(&TRUSTED_PROXIES);
    let traces = TraceConfig::read(env);
    let limits = RateLimitConfig::read(env);
    let event_log = outbox_settings::read(env);
    let log_format = env.read(&LOG_FORMAT);
    let log_level = env.read_checked(&LOG_LEVEL, telemetry::check_filter);
    let dev_signing_key = tokens.as_ref().filter(|_| mode == Some(Mode::Development)).and_then(|it| it.secret.clone());
    let mut warnings = insecure_settings::warnings(listen.as_ref()?.admin, trusted_proxies.as_ref()?, tokens.as_ref()?);
    warnings.extend_from_slice(env.warnings());
    Some(Config {
        listen: listen?,
        trusted_proxies: trusted_proxies?,
        database: database?,
        replica: replica?,
        redis: redis?,
        encryption: encryption?,
        tokens: mode.and(tokens)?,
        traces: traces?,
        limits: limits?,
        audit_key: audit_key?,
        origins: origins?,
        dev_signing_key,
        event_log: event_log?,
        log_format: log_format?,
        log_level: log_level?,
        mode: mode?,
        warnings,
    })
}
