//! The service's settings, each declared once.

mod audit_key;
mod database;
mod encryption;

use std::net::SocketAddr;
use std::time::Duration;

use shared::browser::{ALLOWED_ORIGINS, AllowedOrigins};
use shared::env::{BadEnv, Env, Secret, Setting};
use shared::insecure;
use shared::keys::{KeyRing, RELAY_KEYS, RELAY_KEYS_FILE, reject_weak_keys};
use shared::limit;
use shared::mode::{MODE, Mode};
use shared::redis::RedisUrl;
use shared::request::{TRUSTED_PROXIES, TrustedProxies};
use shared::telemetry::{self, LogFormat};
use shared::tls::CaFile;
use shared::token::TokenConfig;
use shared::token::settings::{
    self, JWKS_CA_FILE, JWKS_FILE, JWKS_REFRESH_SECONDS, JWKS_URL, JWT_AUDIENCE, JWT_ISSUER, JWT_MAX_LIFETIME_SECONDS,
    JWT_SECRET,
};
use shared::trace::{self, TraceConfig};

use audit_key::{AUDIT_KEY, AUDIT_KEYS_OLD, check_audit_key, read_audit_key, read_audit_keys, read_own_audit_key};
use database::{
    DATABASE_BACKGROUND_CONNECTIONS, DATABASE_CA_FILE, DATABASE_POOL_SIZE, DATABASE_URL, DATABASE_WRITE_CONNECTIONS,
    read_database,
};
pub use database::{DatabaseConfig, PoolSizes};
pub use encryption::EncryptionConfig;
use encryption::{CONTENT_KEYS, CONTENT_KEYS_COMMAND, CONTENT_KEYS_FILE};

use crate::audit::key::AuditKey;
use crate::rate_limit::{self, RateLimitConfig};
use crate::store::Role;

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
    AUDIT_KEYS_OLD,
    SERVICE_ROLE,
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
    limit::ADDRESS_RATE.per_second,
    limit::ADDRESS_RATE.burst,
    limit::FAILED_TOKEN_RATE.per_second,
    limit::FAILED_TOKEN_RATE.burst,
    limit::MISSING_TOKEN_RATE.per_second,
    limit::MISSING_TOKEN_RATE.burst,
    EVENT_LOG_LENGTH,
    EVENT_LOG_TTL_SECONDS,
    DRAIN_SECONDS,
    SHUTDOWN_TIMEOUT_SECONDS,
    LOG_FORMAT,
    LOG_LEVEL,
    trace::ENDPOINT,
    trace::RATIO,
];

const REDIS_URL: Setting = Setting {
    name: "REDIS_URL",
    default: None,
    help: "Redis 6.2 or newer: redis://[:password@]host:port, or a Redis Cluster, 7 or newer: \
           redis-cluster://[:password@]host:port[?node=host:port&…]; rediss and rediss-cluster with TLS",
};
const REDIS_CA_FILE: Setting = Setting {
    name: "REDIS_CA_FILE",
    default: Some(""),
    help: "PEM file of the authorities that vouch for Redis, in place of this system's; with rediss only",
};
const SERVICE_ROLE: Setting = Setting {
    name: "SERVICE_ROLE",
    default: Some(""),
    help: "for `migrate`: the role that the service will use, which is granted what it needs and nothing else",
};
const LISTEN_ADDR: Setting =
    Setting { name: "LISTEN_ADDR", default: Some("127.0.0.1:8081"), help: "where requests are served: address:port" };
const ADMIN_ADDR: Setting = Setting {
    name: "ADMIN_ADDR",
    default: Some("127.0.0.1:9081"),
    help: "where metrics and health are served, never to the public: address:port",
};
const MAX_CONNECTIONS: Setting = Setting {
    name: "MAX_CONNECTIONS",
    default: Some("10000"),
    help: "connections to the public port at a time, 1 to 1000000; more wait",
};
const EVENT_LOG_LENGTH: Setting = Setting {
    name: "EVENT_LOG_LENGTH",
    default: Some("128"),
    help: "events a conversation's log in Redis keeps for sockets that come back, 1 to 10000",
};
const EVENT_LOG_TTL_SECONDS: Setting = Setting {
    name: "EVENT_LOG_TTL_SECONDS",
    default: Some("3600"),
    help: "how long a quiet conversation's log stays in Redis, in seconds, 60 to 604800",
};
const DRAIN_SECONDS: Setting = Setting {
    name: "DRAIN_SECONDS",
    default: Some("2"),
    help: "how long a service that is told to stop still serves while /readyz says 503, so that load balancers turn to \
           others first, in seconds, 0 to 600",
};
const SHUTDOWN_TIMEOUT_SECONDS: Setting = Setting {
    name: "SHUTDOWN_TIMEOUT_SECONDS",
    default: Some("20"),
    help: "how long requests in flight may take after that, in seconds, 1 to 600",
};
const LOG_FORMAT: Setting = Setting { name: "LOG_FORMAT", default: Some("json"), help: "json or text" };
const LOG_LEVEL: Setting = Setting {
    name: "LOG_LEVEL",
    default: Some("info"),
    help: "error, warn, info, debug or trace, or tracing directives",
};

/// Where events and receipts pass.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// URL of Redis; it may hold a password.
    pub url: RedisUrl,
    /// Who vouches for it, in place of this system's authorities.
    pub ca: Option<CaFile>,
}

/// How much Redis remembers of a conversation.
#[derive(Debug, Clone, Copy)]
pub struct LogConfig {
    /// Events.
    pub length: u32,
    /// Since the last of them.
    pub ttl_millis: u32,
}

/// Everything that `serve` needs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where requests are served.
    pub listen: SocketAddr,
    /// Where metrics and health are served.
    pub admin: SocketAddr,
    /// Whose word on addresses counts.
    pub trusted_proxies: TrustedProxies,
    /// Where the truth is kept.
    pub database: DatabaseConfig,
    /// Where events and receipts pass.
    pub redis: RedisConfig,
    /// Keys of content, everywhere it is kept.
    pub encryption: EncryptionConfig,
    /// Which tokens are good.
    pub tokens: TokenConfig,
    /// Connections to the public port at a time.
    pub max_connections: usize,
    /// To whom traces go.
    pub traces: Option<TraceConfig>,
    /// How often whom is answered.
    pub limits: RateLimitConfig,
    /// Whose pages may ask.
    pub origins: AllowedOrigins,
    /// Signs tokens for whoever tries the console; in development mode only.
    pub dev_signing_key: Option<Secret>,
    /// What the hashes of the audit trail are made with.
    pub audit_key: AuditKey,
    /// How much Redis remembers of a conversation.
    pub log: LogConfig,
    /// How long load balancers have to turn to others, once the service is told to stop.
    pub drain: Duration,
    /// How long requests in flight may take after that.
    pub shutdown_timeout: Duration,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines there are.
    pub log_level: String,
    /// Whether real people's data are at stake.
    pub mode: Mode,
    /// What is insecure and yet allowed.
    pub warnings: Vec<String>,
}

fn between<T: PartialOrd + std::fmt::Display>(low: T, high: T) -> impl Fn(&T) -> Result<(), String> {
    move |value| match *value >= low && *value <= high {
        true => Ok(()),
        false => Err(format!("must lie between {low} and {high}")),
    }
}

/// Reads what `serve` needs.
///
/// # Errors
/// [`BadEnv`] with every mistake.
pub fn serve(mut env: Env) -> Result<Config, BadEnv> {
    let database = read_database(&mut env);
    let redis = read_redis(&mut env);
    let encryption = encryption::read(&mut env);
    let mode: Option<Mode> = env.read(&MODE);
    let tokens = settings::read(&mut env, mode.unwrap_or_default());
    let audit_key = match (&tokens, env.read_optional::<Secret>(&AUDIT_KEY)) {
        // Nobody knows whether it could be made of the secret: one mistake is enough.
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
    let listen = env.read(&LISTEN_ADDR);
    let admin = env.read(&ADMIN_ADDR);
    let trusted_proxies = env.read(&TRUSTED_PROXIES);
    let max_connections = env.read_if(&MAX_CONNECTIONS, between(1_usize, 1_000_000));
    let traces = TraceConfig::read(&mut env);
    let limits = RateLimitConfig::read(&mut env);
    let length = env.read_if(&EVENT_LOG_LENGTH, between(1, 10_000));
    let ttl = env.read_if(&EVENT_LOG_TTL_SECONDS, between(60_u32, 604_800));
    let drain = env.read_if(&DRAIN_SECONDS, between(0_u64, 600));
    let shutdown = env.read_if(&SHUTDOWN_TIMEOUT_SECONDS, between(1_u64, 600));
    let log_format = env.read(&LOG_FORMAT);
    let log_level = env.read_if(&LOG_LEVEL, telemetry::check_filter);
    env.refuse_unknown(SETTINGS);
    let dev_signing_key = tokens.as_ref().filter(|_| mode == Some(Mode::Development)).and_then(|it| it.secret.clone());
    let warnings = (|| Some(insecure::warnings(admin?, trusted_proxies.as_ref()?, tokens.as_ref()?)))();
    let config = (|| {
        Some(Config {
            listen: listen?,
            admin: admin?,
            trusted_proxies: trusted_proxies?,
            database: database?,
            redis: redis?,
            encryption: encryption?,
            tokens: mode.and(tokens)?,
            max_connections: max_connections?,
            traces: traces?,
            limits: limits?,
            audit_key: audit_key?,
            origins: origins?,
            dev_signing_key,
            log: LogConfig { length: length?, ttl_millis: ttl? * 1_000 },
            drain: Duration::from_secs(drain?),
            shutdown_timeout: Duration::from_secs(shutdown?),
            log_format: log_format?,
            log_level: log_level?,
            mode: mode?,
            warnings: warnings?,
        })
    })();
    let mistakes = env.mistakes();
    config.filter(|_| mistakes.0.is_empty()).ok_or(mistakes)
}

/// Reads what `migrate` needs: the database, and the role that will serve.
///
/// # Errors
/// [`BadEnv`] with every mistake.
pub fn migrate(mut env: Env) -> Result<(DatabaseConfig, Option<Role>), BadEnv> {
    let database = read_database(&mut env);
    let role = env.read_optional(&SERVICE_ROLE);
    database.zip(role).ok_or_else(|| env.mistakes())
}

/// Reads what commands need that work on the database, all of which leave a trace in the audit trail.
///
/// # Errors
/// [`BadEnv`] with every mistake.
pub fn audited(mut env: Env) -> Result<(DatabaseConfig, AuditKey), BadEnv> {
    let database = read_database(&mut env);
    let key = read_own_audit_key(&mut env);
    database.zip(key).ok_or_else(|| env.mistakes())
}

/// Reads what `revoke` needs: the database, and for how long a revocation must be remembered, in seconds.
///
/// # Errors
/// [`BadEnv`] with every mistake.
pub fn revoke(mut env: Env) -> Result<(DatabaseConfig, AuditKey, i64), BadEnv> {
    let database = read_database(&mut env);
    let key = read_own_audit_key(&mut env);
    let max_lifetime = settings::read_max_lifetime(&mut env);
    let read = (|| Some((database?, key?, max_lifetime?)))();
    read.ok_or_else(|| env.mistakes())
}

/// Reads how long a token may live, in seconds.
///
/// # Errors
/// [`BadEnv`]
pub fn max_lifetime(mut env: Env) -> Result<i64, BadEnv> {
    settings::read_max_lifetime(&mut env).ok_or_else(|| env.mistakes())
}

/// Reads what `audit verify` needs: the database, every key that a row may have been made with, and what opens messages, when
/// that is set.
///
/// # Errors
/// [`BadEnv`] with every mistake.
pub fn verify(mut env: Env) -> Result<(DatabaseConfig, Vec<AuditKey>, Option<KeyRing>), BadEnv> {
    let database = read_database(&mut env);
    let keys = read_audit_keys(&mut env);
    let content = encryption::read_content_keys(&mut env);
    let read = (|| Some((database?, keys?, content?)))();
    read.ok_or_else(|| env.mistakes())
}

/// Reads what `audit export` needs: the database, and every key that a row may have been made with, of which the first makes the
/// row about the export.
///
/// # Errors
/// [`BadEnv`] with every mistake.
pub fn export(mut env: Env) -> Result<(DatabaseConfig, Vec<AuditKey>), BadEnv> {
    let database = read_database(&mut env);
    let keys = read_audit_keys(&mut env);
    database.zip(keys).ok_or_else(|| env.mistakes())
}

/// Reads what `keys` needs.
///
/// # Errors
/// [`BadEnv`] with every mistake.
pub fn keys(mut env: Env) -> Result<(DatabaseConfig, AuditKey, KeyRing), BadEnv> {
    let database = read_database(&mut env);
    let audit_key = read_own_audit_key(&mut env);
    let content = encryption::read_content_keys(&mut env);
    if matches!(content, Some(None)) {
        env.mistake(&CONTENT_KEYS, "is required");
    }
    let keys = (|| Some((database?, audit_key?, content??)))();
    keys.ok_or_else(|| env.mistakes())
}

/// Reads what `alive` needs.
///
/// # Errors
/// [`BadEnv`] with every mistake.
pub fn admin(mut env: Env) -> Result<SocketAddr, BadEnv> {
    env.read(&ADMIN_ADDR).ok_or_else(|| env.mistakes())
}

/// Reads what `token` needs.
///
/// # Errors
/// [`BadEnv`] with every mistake.
pub fn secret(mut env: Env) -> Result<Secret, BadEnv> {
    let secret = settings::read_secret(&mut env, |_| Ok(()));
    if let Some(None) = secret {
        env.mistake(&JWT_SECRET, "is required");
    }
    secret.flatten().ok_or_else(|| env.mistakes())
}

fn read_redis(env: &mut Env) -> Option<RedisConfig> {
    let url: Option<RedisUrl> = env.read(&REDIS_URL);
    let is_tls = url.as_ref().is_none_or(RedisUrl::is_tls);
    let ca = match env.read_optional(&REDIS_CA_FILE)? {
        Some(_) if !is_tls => {
            env.mistake(&REDIS_CA_FILE, "is of no use while REDIS_URL does not begin with rediss");
            None
        }
        ca => Some(ca),
    };
    Some(RedisConfig { url: url?, ca: ca? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_mistakes_are_told_at_once_without_their_values() {
        let env = Env::from_fn(|name| match name {
            "JWT_SECRET" => Some("hunter2".to_owned()),
            "LISTEN_ADDR" => Some("everywhere".to_owned()),
            "DATABASE_POOL_SIZE" => Some("1".to_owned()),
            _ => None,
        });
        let told = serve(env).unwrap_err().to_string();
        for name in ["DATABASE_URL", "REDIS_URL", "JWT_SECRET", "LISTEN_ADDR", "DATABASE_POOL_SIZE"] {
            assert!(told.contains(name), "{told}");
        }
        assert!(!told.contains("hunter2") && !told.contains("everywhere"), "{told}");
    }

    #[test]
    fn authorities_that_nobody_would_ask_are_a_mistake() {
        let env = |url: &'static str| {
            Env::from_fn(move |name| match name {
                "JWT_SECRET" => Some("x".repeat(32)),
                "AUDIT_KEY" => Some("y".repeat(32)),
                "DATABASE_URL" => Some("postgres://localhost/chat".to_owned()),
                "REDIS_URL" => Some(url.to_owned()),
                "REDIS_CA_FILE" => Some(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").to_owned()),
                _ => None,
            })
        };
        assert!(serve(env("rediss://localhost")).unwrap_err().to_string().contains("no certificate"));
        assert!(serve(env("amqp://localhost")).unwrap_err().to_string().contains("REDIS_URL: must begin"));
    }

    #[test]
    fn four_settings_are_enough() {
        let env = Env::from_fn(|name| match name {
            "JWT_SECRET" => Some("8f2d1c9e0fb2a84c7790d36b1f8e2a4c".to_owned()),
            "AUDIT_KEY" => Some("b7e23ec29af22b0b4e41da31e868d572".to_owned()),
            "DATABASE_URL" => Some("postgres://localhost/chat".to_owned()),
            "REDIS_URL" => Some("redis://localhost".to_owned()),
            _ => None,
        });
        let config = serve(env).unwrap();
        assert_eq!(config.listen.port(), 8081);
        assert!(config.dev_signing_key.is_none(), "nobody is anybody, unless somebody says so");
        assert!(!format!("{config:?}").contains("8f2d1c9e"));
    }

    #[test]
    fn what_was_made_for_development_is_refused_in_production_by_name() {
        let env = |mode: &'static str| {
            Env::from_fn(move |name| match name {
                "MODE" => Some(mode.to_owned()),
                "JWT_SECRET" => Some("development-5d1c9e0fb2a84c7790d36b1f8e2a4c09".to_owned()),
                "AUDIT_KEY" => Some("b7e23ec29af22b0b4e41da31e868d572".to_owned()),
                "ALLOWED_ORIGINS" => Some("*".to_owned()),
                "DATABASE_URL" => Some("postgres://localhost/chat".to_owned()),
                "REDIS_URL" => Some("redis://localhost".to_owned()),
                _ => None,
            })
        };
        assert!(serve(env("development")).unwrap().dev_signing_key.is_some());
        for mode in ["", "production"] {
            let BadEnv(mistakes) = serve(env(mode)).unwrap_err();
            assert_eq!(mistakes.len(), 2, "{mistakes:?}");
            assert!(mistakes[0].starts_with("JWT_SECRET: was made for development"), "{mistakes:?}");
        }
        assert!(serve(env("prod")).unwrap_err().to_string().contains("MODE"));
        // Tokens are printed in any mode: they are as good as the service that takes them.
        assert!(secret(env("production")).is_ok());
        assert!(secret(Env::from_fn(|_| None)).unwrap_err().to_string().contains("JWT_SECRET: is required"));
    }

    #[test]
    fn only_development_makes_an_audit_key_of_a_secret_that_gateways_know() {
        let secret = "5d1c9e0fb2a84c7790d36b1f8e2a4c09";
        let env = |mode: &'static str, audit_key: &'static str, old: &'static str| {
            Env::from_fn(move |name| match name {
                "MODE" => Some(mode.to_owned()),
                "JWT_SECRET" => Some(secret.to_owned()),
                "AUDIT_KEY" => Some(audit_key.to_owned()),
                "AUDIT_KEYS_OLD" => Some(old.to_owned()),
                "DATABASE_URL" => Some("postgres://localhost/chat".to_owned()),
                "REDIS_URL" => Some("redis://localhost".to_owned()),
                "CONTENT_KEYS" => Some("a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned()),
                "RELAY_KEYS" => Some("b:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=".to_owned()),
                _ => None,
            })
        };
        for mode in ["", "production"] {
            for BadEnv(mistakes) in [
                serve(env(mode, "", "")).unwrap_err(),
                verify(env(mode, "", "")).unwrap_err(),
                export(env(mode, "", "")).unwrap_err(),
                audited(env(mode, "", "")).unwrap_err(),
                keys(env(mode, "", "")).unwrap_err(),
            ] {
                assert!(mistakes.len() == 1 && mistakes[0].starts_with("AUDIT_KEY: is required"), "{mistakes:?}");
            }
        }
        let derived = AuditKey::derived(&secret.parse().unwrap()).unwrap();
        assert_eq!(serve(env("development", "", "")).unwrap().audit_key.id(), derived.id());
        let own = "0f5e4c1b6d2a4e7f9b8c3d1a2e6f7081";
        assert_ne!(serve(env("development", own, "")).unwrap().audit_key.id(), derived.id());
        // What was written before there was a key of its own can still be verified, when somebody says so.
        let (_, keys, _) = verify(env("production", own, "derived:5d1c9e0fb2a84c7790d36b1f8e2a4c09")).unwrap();
        assert_eq!(keys.iter().map(AuditKey::id).collect::<Vec<_>>(), [keys[0].id(), derived.id()]);
        assert!(verify(env("production", own, "derived:short")).is_err());
        // And the trail can be verified without any secret of tokens.
        assert_eq!(export(env("production", own, "")).unwrap().1.len(), 1);
    }

    #[test]
    fn every_setting_is_documented() {
        let help = shared::env::help(SETTINGS);
        for setting in SETTINGS {
            assert!(help.contains(setting.name) && !setting.help.is_empty());
        }
    }

    /// What production starts with, and some more.
    fn production(more: &'static [(&'static str, &'static str)]) -> Result<Config, BadEnv> {
        const GOOD: [(&str, &str); 4] = [
            ("JWT_SECRET", "5d1c9e0fb2a84c7790d36b1f8e2a4c09"),
            ("AUDIT_KEY", "b7e23ec29af22b0b4e41da31e868d57226121c84"),
            ("DATABASE_URL", "postgres://localhost/chat"),
            ("REDIS_URL", "redis://localhost"),
        ];
        let names: Vec<String> = more.iter().map(|(name, _)| (*name).to_owned()).collect();
        let value = move |name: &str| more.iter().chain(&GOOD).find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        serve(Env::from_fn(value).with_names(names))
    }

    #[test]
    fn an_audit_key_that_others_know_or_can_guess_is_refused_in_production() {
        assert!(production(&[]).is_ok());
        const BAD: [&[(&str, &str)]; 4] = [
            &[("AUDIT_KEY", "5d1c9e0fb2a84c7790d36b1f8e2a4c09")],
            &[("AUDIT_KEY", "development-5d1c9e0fb2a84c7790d36b1f8e2a4c0")],
            &[("AUDIT_KEY", "0123456789abcdef0123456789abcdef")],
            &[("AUDIT_KEY", "abababababababababababababababab")],
        ];
        for bad in BAD {
            let BadEnv(mistakes) = production(bad).unwrap_err();
            assert!(mistakes.len() == 1 && mistakes[0].starts_with("AUDIT_KEY:"), "{bad:?}: {mistakes:?}");
            assert!(!mistakes[0].contains(bad[0].1), "{mistakes:?}");
        }
    }

    #[test]
    fn weak_keys_misspelt_settings_levels_and_urls_are_refused_by_name() {
        const ZERO: &str = "zero:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        const ONE: &str = "one:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
        const BAD: [(&str, &[(&str, &str)]); 6] = [
            ("JWT_SECRET", &[("JWT_SECRET", "aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbb")]),
            (
                "CONTENT_KEYS",
                &[("CONTENT_KEYS", ZERO), ("RELAY_KEYS", "k:VQCxAiNEHr6Bv0mxKIOU0ieKz2dD9Z7p4rQ1fXoHq1s=")],
            ),
            ("RELAY_KEYS", &[("CONTENT_KEYS", "k:VQCxAiNEHr6Bv0mxKIOU0ieKz2dD9Z7p4rQ1fXoHq1s="), ("RELAY_KEYS", ONE)]),
            ("LOG_LEVEL", &[("LOG_LEVEL", "inof")]),
            ("RATE_LIMIT_PARTICPANT_BURST", &[("RATE_LIMIT_PARTICPANT_BURST", "5")]),
            ("DATABASE_URL", &[("DATABASE_URL", "mysql://root:hunter2@db/chat")]),
        ];
        for (name, bad) in BAD {
            let BadEnv(mistakes) = production(bad).unwrap_err();
            assert!(mistakes.len() == 1 && mistakes[0].starts_with(&format!("{name}:")), "{name}: {mistakes:?}");
            assert!(!mistakes[0].contains("hunter2"), "{mistakes:?}");
        }
    }

    #[test]
    fn what_is_insecure_and_allowed_is_warned_of() {
        assert_eq!(production(&[]).unwrap().warnings, [""; 0]);
        let config = production(&[("ADMIN_ADDR", "0.0.0.0:9081"), ("TRUSTED_PROXIES", "0.0.0.0/0")]).unwrap();
        assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    }
}
