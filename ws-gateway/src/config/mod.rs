//! Settings, read once from the environment. All errors are reported together.
//!
//! Each file reads the settings of one concern into a struct of its own. None knows the code that it configures.

mod events;
mod http;
mod presence;
mod process;
mod rate_limit;
mod redis;
mod session;

use std::net::SocketAddr;

use shared::contract::insecure_settings;
use shared::contract::token::TokenConfig;
use shared::contract::token::settings as token_settings;
use shared::kit::env::mode::{MODE, Mode};
use shared::kit::env::{ConfigError, Env, Setting};

pub use events::EventConfig;
use http::ADMIN_ADDR;
pub use http::HttpConfig;
pub use presence::PresenceConfig;
pub use process::ProcessConfig;
pub use rate_limit::RateLimitConfig;
pub use redis::RedisConfig;
pub use session::SessionConfig;

/// All settings of a gateway.
#[derive(Debug, Clone)]
pub struct Config {
    /// Ports and handshakes.
    pub http: HttpConfig,
    /// Sockets.
    pub session: SessionConfig,
    /// Limits per participant and address.
    pub rate_limit: RateLimitConfig,
    /// The connection to Redis.
    pub redis: RedisConfig,
    /// Events and their logs.
    pub events: EventConfig,
    /// Presence.
    pub presence: PresenceConfig,
    /// Verification of tokens.
    pub tokens: TokenConfig,
    /// Logs, traces, threads and shutdown.
    pub process: ProcessConfig,
    /// Settings that are insecure but allowed.
    pub warnings: Vec<String>,
}

/// All settings, for `--help`: those that [`Config::read`] asks for.
#[must_use]
pub fn settings() -> Vec<Setting> {
    let mut env = Env::from_fn(|_| None);
    let _incomplete = Config::read_all(&mut env);
    env.settings().to_vec()
}

impl Config {
    /// Reads all settings.
    ///
    /// # Errors
    /// [`ConfigError`], with every error.
    pub fn read(mut env: Env) -> Result<Self, ConfigError> {
        let config = Self::read_all(&mut env);
        let errors = env.into_error();
        match config {
            Some(config) if errors.0.is_empty() => config.check(),
            _ => Err(errors),
        }
    }

    fn read_all(env: &mut Env) -> Option<Self> {
        // Every setting is read even if another was wrong, so that all errors are reported.
        let mode: Option<Mode> = env.read(&MODE);
        let tokens = token_settings::read(env, mode.unwrap_or_default());
        let http = HttpConfig::read(env, mode.unwrap_or_default());
        let session = SessionConfig::read(env);
        let rate_limit = RateLimitConfig::read(env);
        let redis = RedisConfig::read(env);
        let events = EventConfig::read(env, mode.unwrap_or_default());
        let presence = PresenceConfig::read(env);
        let process = ProcessConfig::read(env);
        let settings = env.settings().to_vec();
        env.reject_unknown(&settings);
        let mut warnings = insecure_settings::gateway_warnings(env);
        warnings.extend_from_slice(env.warnings());
        if let (Some(http), Some(tokens)) = (&http, &tokens) {
            warnings.extend(insecure_settings::warnings(http.admin_addr, &http.trusted_proxies, tokens));
        }
        Some(Self {
            http: http?,
            session: session?,
            rate_limit: rate_limit?,
            redis: redis?,
            events: events?,
            presence: presence?,
            tokens: mode.and(tokens)?,
            process: process?,
            warnings,
        })
    }

    /// Checks settings against each other.
    fn check(self) -> Result<Self, ConfigError> {
        let Self { session, redis, events, presence, process, .. } = &self;
        let mut errors = Vec::new();
        if session.idle_timeout <= session.heartbeat_interval {
            errors.push("IDLE_TIMEOUT_SECONDS: must be more than HEARTBEAT_SECONDS".to_owned());
        }
        // A gateway that cannot renew its lease must notice before the lease ends. Until it has seen Redis healthy
        // for a whole lease again, it does not expire the leases of others.
        if presence.lease * 2 < redis.timeout * 3 {
            errors.push("PRESENCE_TTL_SECONDS: must be one and a half times REDIS_TIMEOUT_SECONDS or more".to_owned());
        }
        // A log that is renewed too late is gone, and its sockets would have to reload the history without need.
        if events.log_ttl < events.reconcile_interval * 2 {
            errors.push("RECONCILE_INTERVAL_SECONDS: must be half of EVENT_LOG_TTL_SECONDS or less".to_owned());
        }
        if process.drain >= process.shutdown_timeout {
            errors.push("DRAIN_SECONDS: must be less than SHUTDOWN_TIMEOUT_SECONDS".to_owned());
        }
        if errors.is_empty() { Ok(self) } else { Err(ConfigError(errors)) }
    }
}

/// Where a gateway with this environment serves metrics and health.
///
/// # Errors
/// [`ConfigError`], when the setting is wrong.
pub fn admin(mut env: Env) -> Result<SocketAddr, ConfigError> {
    env.read(&ADMIN_ADDR).ok_or_else(|| env.into_error())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(variables: &'static [(&'static str, &'static str)]) -> Result<Config, ConfigError> {
        const REQUIRED: [(&str, &str); 2] =
            [("REDIS_URL", "redis://localhost"), ("JWT_SECRET", "5d1c9e0fb2a84c7790d36b1f8e2a4c09")];
        Config::read(Env::from_fn(move |name| {
            let value = variables.iter().chain(&REQUIRED).find(|(n, _)| *n == name);
            value.map(|(_, value)| (*value).to_owned())
        }))
    }

    #[test]
    fn defaults_are_valid() {
        let config = read(&[]).unwrap();
        assert_eq!(config.session.max_frame_bytes, 65_536);
        assert_eq!(config.redis.timeout, Duration::from_secs(3));
        assert_eq!(config.tokens.issuer, None);
    }

    #[test]
    fn all_errors_are_reported_together() {
        let ConfigError(errors) = read(&[
            ("LISTEN_ADDR", "here"),
            ("REDIS_URL", "http://x"),
            ("JWT_SECRET", "short"),
            ("LOG_FORMAT", "xml"),
            ("HEARTBEAT_SECONDS", "0"),
            ("MAX_FRAME_BYTES", "-1"),
        ])
        .unwrap_err();
        assert_eq!(errors.len(), 6, "{errors:?}");
    }

    #[test]
    fn development_values_are_rejected_in_production() {
        const MADE: (&str, &str) = ("JWT_SECRET", "development-5d1c9e0fb2a84c7790d36b1f8e2a4c09");
        assert!(read(&[MADE, ("MODE", "development"), ("ALLOWED_ORIGINS", "*")]).is_ok());
        let ConfigError(errors) = read(&[MADE, ("ALLOWED_ORIGINS", "*")]).unwrap_err();
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors[0].starts_with("JWT_SECRET: was made for development"), "{errors:?}");
        assert!(read(&[("MODE", "test")]).unwrap_err().to_string().contains("MODE"));
    }

    #[test]
    fn misspelt_settings_are_rejected_by_name() {
        let names = ["MAX_SOCKETS_PER_PARTICIPANTS", "JWT_SECRET", "REDIS_URL"].map(str::to_owned);
        let values = |name: &str| match name {
            "REDIS_URL" => Some("redis://localhost".to_owned()),
            "JWT_SECRET" => Some("x".repeat(32)),
            "LOG_LEVEL" => Some("inof".to_owned()),
            "RELAY_KEYS" => Some("zero:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned()),
            _ => None,
        };
        let ConfigError(errors) = Config::read(Env::from_fn(values).with_names(names)).unwrap_err();
        for name in ["MAX_SOCKETS_PER_PARTICIPANTS", "JWT_SECRET", "LOG_LEVEL", "RELAY_KEYS"] {
            assert!(errors.iter().any(|error| error.starts_with(&format!("{name}:"))), "{name}: {errors:?}");
        }
        assert_eq!(errors.len(), 4, "{errors:?}");
    }

    #[test]
    fn insecure_settings_produce_warnings() {
        assert_eq!(read(&[]).unwrap().warnings, [""; 0]);
        let config = read(&[("CONTENT_KEYS", "k"), ("ADMIN_ADDR", "0.0.0.0:9082"), ("TRUSTED_PROXIES", "::/0")]);
        assert_eq!(config.unwrap().warnings.len(), 3);
    }

    #[test]
    fn settings_are_checked_against_each_other() {
        let ConfigError(errors) =
            read(&[("IDLE_TIMEOUT_SECONDS", "25"), ("DRAIN_SECONDS", "30"), ("PRESENCE_TTL_SECONDS", "4")])
                .unwrap_err();
        assert_eq!(errors.len(), 3, "{errors:?}");
    }

    #[test]
    fn log_outlives_two_reconcile_intervals() {
        let ConfigError(errors) =
            read(&[("RECONCILE_INTERVAL_SECONDS", "31"), ("EVENT_LOG_TTL_SECONDS", "60")]).unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].starts_with("RECONCILE_INTERVAL_SECONDS: "), "{errors:?}");
        let life = |variables| read(variables).unwrap().events.marker_ttl().as_secs();
        assert_eq!(life(&[("RECONCILE_INTERVAL_SECONDS", "30"), ("EVENT_LOG_TTL_SECONDS", "60")]), 60);
        assert_eq!(life(&[]), 120);
        assert_eq!(life(&[("RECONCILE_INTERVAL_SECONDS", "600")]), 1200);
    }

    #[test]
    fn settings_are_listed_in_any_environment() {
        let complete: Vec<_> = settings().iter().map(|setting| setting.name).collect();
        let mut env = Env::from_fn(|name| (name != "MODE").then(|| "x".to_owned()));
        assert!(Config::read_all(&mut env).is_none());
        assert_eq!(env.settings().iter().map(|setting| setting.name).collect::<Vec<_>>(), complete);
    }
}
