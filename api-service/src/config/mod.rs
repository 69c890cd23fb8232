//! All settings of `serve`, collected from the modules that own them. Every setting is declared once, and all errors are reported
//! together.

mod commands;
mod listen;
mod redis;
#[cfg(test)]
mod tests;

use shared::contract::http::request::{TRUSTED_PROXIES, TrustedProxies};
use shared::contract::http::web_security::{ALLOWED_ORIGINS, AllowedOrigins};
use shared::contract::insecure_settings;
use shared::contract::token::TokenConfig;
use shared::contract::token::settings::{
    self, JWKS_CA_FILE, JWKS_FILE, JWKS_REFRESH_SECONDS, JWKS_URL, JWT_AUDIENCE, JWT_ISSUER, JWT_MAX_LIFETIME_SECONDS,
    JWT_SECRET,
};
use shared::kit::crypto::key_ring::{RELAY_KEYS, RELAY_KEYS_FILE, reject_weak_keys};
use shared::kit::env::mode::{MODE, Mode};
use shared::kit::env::{ConfigError, Env, Secret, Setting};
use shared::kit::rate_limit::{ADDRESS_RATE, FAILED_TOKEN_RATE, MISSING_TOKEN_RATE};
use shared::kit::telemetry::trace::{self, TraceConfig};
use shared::kit::telemetry::{self, LogFormat};

use crate::audit::settings::{AUDIT_KEY, AUDIT_PREVIOUS_KEYS, AuditKey, check_audit_key, read_audit_key};
use crate::envelope::settings::{
    self as encryption, CONTENT_KEYS, CONTENT_KEYS_COMMAND, CONTENT_KEYS_FILE, EncryptionConfig,
};
use crate::limits::rate_limit::{self, RateLimitConfig};
use crate::outbox::settings::{self as outbox_settings, EVENT_LOG_LENGTH, EVENT_LOG_TTL_SECONDS, EventLogConfig};
use crate::store::settings::{
    DATABASE_BACKGROUND_CONNECTIONS, DATABASE_CA_FILE, DATABASE_POOL_SIZE, DATABASE_SERVICE_ROLE, DATABASE_URL,
    DATABASE_WRITE_CONNECTIONS, DatabaseConfig, read_database,
};
pub use commands::{admin, audit, export, keys, max_lifetime, migrate, revoke, secret, verify};
pub use listen::ListenConfig;
use listen::{ADMIN_ADDR, DRAIN_SECONDS, LISTEN_ADDR, MAX_CONNECTIONS, SHUTDOWN_TIMEOUT_SECONDS};
pub use redis::RedisConfig;
use redis::{REDIS_CA_FILE, REDIS_URL};

/// Every setting, for `--help`.
pub const SETTINGS: &[Setting] = &[
    DATABASE_URL,
    DATABASE_CA_FILE,
    REDIS_URL,
    REDIS_CA_FILE,
    CONTENT_KEYS,
    CONTENT_KEYS_FILE,
    CONTENT_KEYS_COMMAND,
    RELAY_KEYS,
    RELAY_KEYS_FILE,
    MODE,
    JWT_SECRET,
    JWKS_FILE,
    JWKS_URL,
    JWKS_CA_FILE,
    JWKS_REFRESH_SECONDS,
    JWT_ISSUER,
    JWT_AUDIENCE,
    JWT_MAX_LIFETIME_SECONDS,
    ALLOWED_ORIGINS,
    AUDIT_KEY,
    AUDIT_PREVIOUS_KEYS,
    DATABASE_SERVICE_ROLE,
    LISTEN_ADDR,
    ADMIN_ADDR,
    TRUSTED_PROXIES,
    DATABASE_POOL_SIZE,
    DATABASE_WRITE_CONNECTIONS,
    DATABASE_BACKGROUND_CONNECTIONS,
    MAX_CONNECTIONS,
    rate_limit::PARTICIPANT.per_second,
    rate_limit::PARTICIPANT.burst,
    rate_limit::CONTACT_SENDS.per_second,
    rate_limit::CONTACT_SENDS.burst,
    rate_limit::SERVICE.per_second,
    rate_limit::SERVICE.burst,
    ADDRESS_RATE.per_second,
    ADDRESS_RATE.burst,
    FAILED_TOKEN_RATE.per_second,
    FAILED_TOKEN_RATE.burst,
    MISSING_TOKEN_RATE.per_second,
    MISSING_TOKEN_RATE.burst,
    EVENT_LOG_LENGTH,
    EVENT_LOG_TTL_SECONDS,
    DRAIN_SECONDS,
    SHUTDOWN_TIMEOUT_SECONDS,
    LOG_FORMAT,
    LOG_LEVEL,
    trace::OTLP_ENDPOINT,
    trace::SAMPLE_RATIO,
];

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
    /// Redis.
    pub redis: RedisConfig,
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

/// Reads the configuration of `serve`.
///
/// # Errors
/// [`ConfigError`] with every mistake.
pub fn serve(mut env: Env) -> Result<Config, ConfigError> {
    let database = read_database(&mut env);
    let redis = redis::read(&mut env);
    let encryption = encryption::read(&mut env);
    let mode: Option<Mode> = env.read(&MODE);
    let tokens = settings::read(&mut env, mode.unwrap_or_default());
    let audit_key = match (&tokens, env.read_optional::<Secret>(&AUDIT_KEY)) {
        // Without a token secret it is unknown whether the audit key could be derived: one error is enough.
        (None, Some(None)) if mode != Some(Mode::Production) => None,
        _ => {
            let jwt_secret = tokens.as_ref().and_then(|tokens| tokens.secret.as_ref());
            read_audit_key(&mut env, mode.unwrap_or_default(), jwt_secret)
        }
    };
    let secret = tokens.as_ref().and_then(|tokens| tokens.secret.as_ref());
    check_audit_key(&mut env, mode.unwrap_or_default(), secret);
    let content = encryption.as_ref().and_then(|keys| keys.content.as_ref());
    reject_weak_keys(&mut env, &CONTENT_KEYS, content, mode.unwrap_or_default());
    let relay = encryption.as_ref().and_then(|keys| keys.relay.as_ref());
    reject_weak_keys(&mut env, &RELAY_KEYS, relay, mode.unwrap_or_default());
    let origins = AllowedOrigins::read(&mut env, mode.unwrap_or_default());
    let listen = listen::read(&mut env);
    let trusted_proxies = env.read(&TRUSTED_PROXIES);
    let traces = TraceConfig::read(&mut env);
    let limits = RateLimitConfig::read(&mut env);
    let event_log = outbox_settings::read(&mut env);
    let log_format = env.read(&LOG_FORMAT);
    let log_level = env.read_checked(&LOG_LEVEL, telemetry::check_filter);
    env.reject_unknown(SETTINGS);
    let dev_signing_key = tokens.as_ref().filter(|_| mode == Some(Mode::Development)).and_then(|it| it.secret.clone());
    let warnings =
        (|| Some(insecure_settings::warnings(listen.as_ref()?.admin, trusted_proxies.as_ref()?, tokens.as_ref()?)))();
    let config = (|| {
        Some(Config {
            listen: listen?,
            trusted_proxies: trusted_proxies?,
            database: database?,
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
            warnings: warnings?,
        })
    })();
    let mistakes = env.into_error();
    config.filter(|_| mistakes.0.is_empty()).ok_or(mistakes)
}
