//! Settings, read once from the environment, every mistake reported.

use std::fmt::Display;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use shared::browser::{ALLOWED_ORIGINS, AllowedOrigins};
use shared::channel::MARKER_LIFE_MILLIS;
use shared::env::{BadEnv, Env, Setting};
use shared::insecure;
use shared::keys::{KeyRing, RELAY_KEYS, RELAY_KEYS_FILE, read_relay_keys, reject_weak_keys};
use shared::limit::{self, Rate, RateSettings};
use shared::mode::{MODE, Mode};
use shared::request::{TRUSTED_PROXIES, TrustedProxies};
use shared::telemetry::{self, LogFormat};
use shared::tls::CaFile;
use shared::token::TokenConfig;
use shared::token::settings::{
    self, JWKS_CA_FILE, JWKS_FILE, JWKS_REFRESH_SECONDS, JWKS_URL, JWT_AUDIENCE, JWT_ISSUER, JWT_MAX_LIFETIME_SECONDS,
    JWT_SECRET,
};
use shared::trace::{self, TraceConfig};

use crate::redis::RedisUrl;

/// Everything that can be set.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where clients connect.
    pub listen_addr: SocketAddr,
    /// Where metrics and health are served; never public.
    pub admin_addr: SocketAddr,
    /// Whose word on addresses counts.
    pub trusted_proxies: TrustedProxies,
    /// The server that carries events and receipts.
    pub redis_url: RedisUrl,
    /// Who vouches for it, in place of this system's authorities.
    pub redis_ca: Option<CaFile>,
    /// How long Redis may take for a command, a connection, or a sign of life.
    pub redis_timeout: Duration,
    /// What opens the messages that come through Redis sealed.
    pub relay_keys: Option<KeyRing>,
    /// Which tokens are good.
    pub tokens: TokenConfig,
    /// Whose pages may open sockets.
    pub origins: AllowedOrigins,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines there are.
    pub log_level: String,
    /// What is insecure and yet allowed.
    pub warnings: Vec<String>,
    /// From the accepted connection to the answered handshake.
    pub handshake_timeout: Duration,
    /// Between two Pings to a silent client.
    pub heartbeat: Duration,
    /// How long a client may be silent.
    pub idle_timeout: Duration,
    /// Largest frame and message of a client.
    pub max_frame_bytes: usize,
    /// What may wait for one socket.
    pub outbound_queue_bytes: usize,
    /// Sockets at a time.
    pub max_sockets: usize,
    /// Of one participant; 0 for no limit.
    pub max_sockets_per_participant: u32,
    /// Of one address; 0 for no limit.
    pub max_sockets_per_address: u32,
    /// Frames a second that a client may send; 0 for no limit.
    pub max_frames_per_second: u32,
    /// To whom traces go.
    pub traces: Option<TraceConfig>,
    /// Handshakes of all.
    pub handshakes: Option<Rate>,
    /// Handshakes of one participant.
    pub participant_rate: Option<Rate>,
    /// Handshakes of one address.
    pub address_rate: Option<Rate>,
    /// Whether messages that are not sealed are refused.
    pub refuses_unsealed: bool,
    /// Refused tokens of one address.
    pub failure_rate: Option<Rate>,
    /// Handshakes of one address that come without a token.
    pub no_token_rate: Option<Rate>,
    /// Over which the sockets are closed when the gateway ends.
    pub drain: Duration,
    /// After which the gateway ends whatever is left.
    pub shutdown_timeout: Duration,
    /// How long the log of a silent conversation lives.
    pub event_log_ttl: Duration,
    /// Between two comparisons with the logs.
    pub position_check: Duration,
    /// How long people stay online at a gateway that is not heard of any more.
    pub presence_ttl: Duration,
    /// How long somebody stays online without a socket.
    pub presence_linger: Duration,
    /// Threads that serve sockets; 0 is one a core.
    pub worker_threads: usize,
}

const fn setting(name: &'static str, default: Option<&'static str>, help: &'static str) -> Setting {
    Setting { name, default, help }
}

const LISTEN_ADDR: Setting = setting("LISTEN_ADDR", Some("127.0.0.1:8082"), "address and port for clients");
const ADMIN_ADDR: Setting =
    setting("ADMIN_ADDR", Some("127.0.0.1:9082"), "address and port for /metrics, /healthz, /readyz; keep it private");
const REDIS_URL: Setting = setting(
    "REDIS_URL",
    None,
    "redis://[[user]:password@]host[:port][/database], or redis-cluster://host:port[?node=host:port&…]; rediss and \
     rediss-cluster with TLS; as the API service has it",
);
const REDIS_CA_FILE: Setting = setting(
    "REDIS_CA_FILE",
    Some(""),
    "PEM file of the authorities that vouch for Redis, in place of this system's; with rediss only",
);
const REDIS_TIMEOUT: Setting =
    setting("REDIS_TIMEOUT_SECONDS", Some("3"), "1 to 60: how long Redis may be silent before it counts as lost");
const RELAY_UNSEALED: Setting = setting(
    "RELAY_UNSEALED",
    Some("accept"),
    "accept or refuse: what becomes of messages in Redis that are not sealed; refuse once every API service has RELAY_KEYS",
);
const LOG_FORMAT: Setting = setting("LOG_FORMAT", Some("json"), "json or text");
const LOG_LEVEL: Setting =
    setting("LOG_LEVEL", Some("info"), "error, warn, info, debug or trace, or tracing directives");
const HANDSHAKE_TIMEOUT: Setting =
    setting("HANDSHAKE_TIMEOUT_SECONDS", Some("10"), "1 to 300: from connecting to an answered handshake");
const HEARTBEAT: Setting = setting("HEARTBEAT_SECONDS", Some("25"), "1 to 3600: between two Pings to a client");
const IDLE_TIMEOUT: Setting = setting(
    "IDLE_TIMEOUT_SECONDS",
    Some("60"),
    "1 to 7200, more than HEARTBEAT_SECONDS: silence after which a client is gone",
);
const MAX_FRAME: Setting = setting("MAX_FRAME_BYTES", Some("65536"), "1024 to 16777216: largest frame of a client");
const OUTBOUND_QUEUE: Setting = setting(
    "OUTBOUND_QUEUE_BYTES",
    Some("1048576"),
    "65536 to 1073741824: what may wait for one socket before it is too slow",
);
const MAX_SOCKETS: Setting =
    setting("MAX_SOCKETS", Some("50000"), "1 to 1000000: sockets at a time; more are refused (503)");
const MAX_SOCKETS_PER_PARTICIPANT: Setting = setting(
    "MAX_SOCKETS_PER_PARTICIPANT",
    Some("100"),
    "0 to 1000000: sockets of one user or contact in this gateway; one more is closed at once (4429); 0 for no limit",
);
const MAX_SOCKETS_PER_ADDRESS: Setting = setting(
    "MAX_SOCKETS_PER_ADDRESS",
    Some("0"),
    "0 to 1000000: sockets of one address in this gateway; one more is closed at once (4429); 0 for no limit, since a \
     hospital may have one address",
);
const MAX_FRAMES_PER_SECOND: Setting = setting(
    "MAX_FRAMES_PER_SECOND",
    Some("100"),
    "0 to 1000000: frames a second of one client, ten times as many at once; more are not heard (`rate_limited`), and \
     a hundred times as many close the socket (1008); 0 for no limit",
);
const HANDSHAKES_PER_SECOND: Setting = setting(
    "HANDSHAKES_PER_SECOND",
    Some("0"),
    "0 to 1000000: handshakes a second, ten times as many at once; more are refused (429); 0 for no limit",
);
const HANDSHAKES_OF_PARTICIPANT: RateSettings = RateSettings {
    per_second: setting(
        "HANDSHAKES_PER_PARTICIPANT_PER_SECOND",
        Some("5"),
        "0 to 1000000: handshakes a second of one user or contact in this gateway; more are refused (429); 0 for no limit",
    ),
    burst: setting(
        "HANDSHAKES_PER_PARTICIPANT_BURST",
        Some("100"),
        "1 to 10000000: handshakes of one user or contact at once",
    ),
};
const DRAIN: Setting = setting(
    "DRAIN_SECONDS",
    Some("10"),
    "0 to 3600, less than SHUTDOWN_TIMEOUT_SECONDS: window in which sockets are closed at the end",
);
const SHUTDOWN_TIMEOUT: Setting =
    setting("SHUTDOWN_TIMEOUT_SECONDS", Some("30"), "1 to 7200: from SIGTERM to the end, whatever is left");
const EVENT_LOG_TTL: Setting = setting(
    "EVENT_LOG_TTL_SECONDS",
    Some("3600"),
    "60 to 604800: how long the log of a silent conversation lives; as the API service has it",
);
const POSITION_CHECK: Setting = setting(
    "POSITION_CHECK_SECONDS",
    Some("15"),
    "1 to 3600, half of EVENT_LOG_TTL_SECONDS at most: between two comparisons with the logs",
);
const PRESENCE_TTL: Setting = setting(
    "PRESENCE_TTL_SECONDS",
    Some("30"),
    "3 to 3600, at least one and a half times REDIS_TIMEOUT_SECONDS: how long people stay online at a gateway that died \
     without a word",
);
const PRESENCE_LINGER: Setting = setting(
    "PRESENCE_LINGER_SECONDS",
    Some("3"),
    "0 to 300: how long somebody stays online without a socket, so that a page can be loaded again",
);
const WORKER_THREADS: Setting =
    setting("WORKER_THREADS", Some("0"), "0 to 1024: threads that serve sockets; 0 is one for each core");

/// All settings, for `--help`.
pub const SETTINGS: &[Setting] = &[
    LISTEN_ADDR,
    ADMIN_ADDR,
    TRUSTED_PROXIES,
    REDIS_URL,
    REDIS_CA_FILE,
    REDIS_TIMEOUT,
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
    LOG_FORMAT,
    RELAY_UNSEALED,
    LOG_LEVEL,
    trace::ENDPOINT,
    trace::RATIO,
    HANDSHAKE_TIMEOUT,
    HEARTBEAT,
    IDLE_TIMEOUT,
    MAX_FRAME,
    OUTBOUND_QUEUE,
    MAX_SOCKETS,
    MAX_SOCKETS_PER_PARTICIPANT,
    MAX_SOCKETS_PER_ADDRESS,
    MAX_FRAMES_PER_SECOND,
    HANDSHAKES_PER_SECOND,
    HANDSHAKES_OF_PARTICIPANT.per_second,
    HANDSHAKES_OF_PARTICIPANT.burst,
    limit::ADDRESS_RATE.per_second,
    limit::ADDRESS_RATE.burst,
    limit::FAILED_TOKEN_RATE.per_second,
    limit::FAILED_TOKEN_RATE.burst,
    limit::MISSING_TOKEN_RATE.per_second,
    limit::MISSING_TOKEN_RATE.burst,
    DRAIN,
    SHUTDOWN_TIMEOUT,
    EVENT_LOG_TTL,
    POSITION_CHECK,
    PRESENCE_TTL,
    PRESENCE_LINGER,
    WORKER_THREADS,
];

impl Config {
    /// Reads all settings.
    ///
    /// # Errors
    /// [`BadEnv`], with every mistake.
    pub fn read(mut env: Env) -> Result<Self, BadEnv> {
        let config = Self::read_all(&mut env);
        let mistakes = env.mistakes();
        match config {
            Some(config) if mistakes.0.is_empty() => config.check(),
            _ => Err(mistakes),
        }
    }

    fn read_all(env: &mut Env) -> Option<Self> {
        // Each is read, whatever became of those before it: all mistakes are to be named.
        let listen_addr = env.read(&LISTEN_ADDR);
        let admin_addr = env.read(&ADMIN_ADDR);
        let trusted_proxies = env.read(&TRUSTED_PROXIES);
        let redis_url = env.read(&REDIS_URL);
        let redis_ca = env.read_optional(&REDIS_CA_FILE);
        let redis_timeout = seconds(env, &REDIS_TIMEOUT, 1, 60);
        let relay_keys = read_relay_keys(env);
        let unsealed = env.read_if(&RELAY_UNSEALED, |word: &String| match word.as_str() {
            "accept" | "refuse" => Ok(()),
            _ => Err("must be accept or refuse".to_owned()),
        });
        if unsealed.as_deref() == Some("refuse") && matches!(relay_keys, Some(None)) {
            env.mistake(&RELAY_UNSEALED, "refuse needs RELAY_KEYS");
        }
        let mode: Option<Mode> = env.read(&MODE);
        let tokens = settings::read(env, mode.unwrap_or_default());
        let origins = AllowedOrigins::read(env, mode.unwrap_or_default());
        let log_format = env.read(&LOG_FORMAT);
        let log_level = env.read_if(&LOG_LEVEL, telemetry::check_filter);
        env.refuse_unknown(SETTINGS);
        reject_weak_keys(env, &RELAY_KEYS, relay_keys.as_ref().and_then(Option::as_ref), mode.unwrap_or_default());
        let handshake_timeout = seconds(env, &HANDSHAKE_TIMEOUT, 1, 300);
        let heartbeat = seconds(env, &HEARTBEAT, 1, 3600);
        let idle_timeout = seconds(env, &IDLE_TIMEOUT, 1, 7200);
        let max_frame_bytes = number(env, &MAX_FRAME, &1024, &(16 << 20));
        let outbound_queue_bytes = number(env, &OUTBOUND_QUEUE, &65_536, &(1 << 30));
        let max_sockets = number(env, &MAX_SOCKETS, &1, &1_000_000);
        let max_sockets_per_participant = number(env, &MAX_SOCKETS_PER_PARTICIPANT, &0, &1_000_000);
        let max_sockets_per_address = number(env, &MAX_SOCKETS_PER_ADDRESS, &0, &1_000_000);
        let max_frames_per_second = number(env, &MAX_FRAMES_PER_SECOND, &0, &1_000_000);
        let handshakes = number::<u32>(env, &HANDSHAKES_PER_SECOND, &0, &1_000_000);
        let participant_rate = HANDSHAKES_OF_PARTICIPANT.read(env);
        let address_rate = limit::ADDRESS_RATE.read(env);
        let failure_rate = limit::FAILED_TOKEN_RATE.read(env);
        let no_token_rate = limit::MISSING_TOKEN_RATE.read(env);
        let traces = TraceConfig::read(env);
        let drain = seconds(env, &DRAIN, 0, 3600);
        let shutdown_timeout = seconds(env, &SHUTDOWN_TIMEOUT, 1, 7200);
        let event_log_ttl = seconds(env, &EVENT_LOG_TTL, 60, 604_800);
        let position_check = seconds(env, &POSITION_CHECK, 1, 3600);
        let presence_ttl = seconds(env, &PRESENCE_TTL, 3, 3600);
        let presence_linger = seconds(env, &PRESENCE_LINGER, 0, 300);
        let worker_threads = number(env, &WORKER_THREADS, &0, &1024);
        let mut warnings = insecure::warnings_of_gateway(env);
        if let (Some(admin), Some(proxies), Some(tokens)) = (admin_addr, &trusted_proxies, &tokens) {
            warnings.extend(insecure::warnings(admin, proxies, tokens));
        }
        Some(Self {
            warnings,
            listen_addr: listen_addr?,
            admin_addr: admin_addr?,
            trusted_proxies: trusted_proxies?,
            redis_url: redis_url?,
            redis_ca: redis_ca?,
            redis_timeout: redis_timeout?,
            relay_keys: relay_keys?,
            tokens: mode.and(tokens)?,
            origins: origins?,
            log_format: log_format?,
            log_level: log_level?,
            handshake_timeout: handshake_timeout?,
            heartbeat: heartbeat?,
            idle_timeout: idle_timeout?,
            max_frame_bytes: max_frame_bytes?,
            outbound_queue_bytes: outbound_queue_bytes?,
            max_sockets: max_sockets?,
            max_sockets_per_participant: max_sockets_per_participant?,
            max_sockets_per_address: max_sockets_per_address?,
            max_frames_per_second: max_frames_per_second?,
            handshakes: handshakes.map(|rate| Rate::new(rate, rate.saturating_mul(10)))?,
            participant_rate: participant_rate?,
            address_rate: address_rate?,
            refuses_unsealed: unsealed? == "refuse",
            failure_rate: failure_rate?,
            no_token_rate: no_token_rate?,
            traces: traces?,
            drain: drain?,
            shutdown_timeout: shutdown_timeout?,
            event_log_ttl: event_log_ttl?,
            position_check: position_check?,
            presence_ttl: presence_ttl?,
            presence_linger: presence_linger?,
            worker_threads: worker_threads?,
        })
    }

    /// How long a log lives that was only opened. It is prolonged every [`Config::position_check`], so it never lives for less than two of
    /// these.
    #[must_use]
    pub fn marker_life(&self) -> Duration {
        Duration::from_millis(MARKER_LIFE_MILLIS).max(self.position_check * 2).min(self.event_log_ttl)
    }

    /// What must hold between settings.
    fn check(self) -> Result<Self, BadEnv> {
        let mut mistakes = Vec::new();
        if self.redis_ca.is_some() && !self.redis_url.is_tls() {
            mistakes.push("REDIS_CA_FILE: is of no use while REDIS_URL does not begin with rediss".to_owned());
        }
        if self.idle_timeout <= self.heartbeat {
            mistakes.push("IDLE_TIMEOUT_SECONDS: must be more than HEARTBEAT_SECONDS".to_owned());
        }
        // Whoever could not prolong its lease must have noticed before it ends: it sends nobody away then.
        if self.presence_ttl * 2 < self.redis_timeout * 3 {
            mistakes
                .push("PRESENCE_TTL_SECONDS: must be one and a half times REDIS_TIMEOUT_SECONDS or more".to_owned());
        }
        // A log whose life is prolonged too late is gone, and its sockets would be told to load the history for nothing.
        if self.event_log_ttl < self.position_check * 2 {
            mistakes.push("POSITION_CHECK_SECONDS: must be half of EVENT_LOG_TTL_SECONDS or less".to_owned());
        }
        if self.drain >= self.shutdown_timeout {
            mistakes.push("DRAIN_SECONDS: must be less than SHUTDOWN_TIMEOUT_SECONDS".to_owned());
        }
        if mistakes.is_empty() { Ok(self) } else { Err(BadEnv(mistakes)) }
    }
}

/// Where a gateway with this environment serves metrics and health.
///
/// # Errors
/// [`BadEnv`], when the setting is wrong.
pub fn admin(mut env: Env) -> Result<SocketAddr, BadEnv> {
    env.read(&ADMIN_ADDR).ok_or_else(|| env.mistakes())
}

fn number<T>(env: &mut Env, setting: &Setting, least: &T, most: &T) -> Option<T>
where
    T: FromStr<Err: Display> + PartialOrd + Display,
{
    env.read_if(setting, |value| match (least..=most).contains(&value) {
        true => Ok(()),
        false => Err(format!("must be {least} to {most}")),
    })
}

fn seconds(env: &mut Env, setting: &Setting, least: u64, most: u64) -> Option<Duration> {
    number(env, setting, &least, &most).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &'static [(&'static str, &'static str)]) -> Result<Config, BadEnv> {
        const REQUIRED: [(&str, &str); 2] =
            [("REDIS_URL", "redis://localhost"), ("JWT_SECRET", "5d1c9e0fb2a84c7790d36b1f8e2a4c09")];
        Config::read(Env::from_fn(move |name| {
            let value = variables.iter().chain(&REQUIRED).find(|(n, _)| *n == name);
            value.map(|(_, value)| (*value).to_owned())
        }))
    }

    #[test]
    fn defaults_are_good() {
        let config = read(&[]).unwrap();
        assert_eq!(config.max_frame_bytes, 65_536);
        assert_eq!(config.redis_timeout, Duration::from_secs(3));
        assert_eq!(config.tokens.issuer, None);
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        let BadEnv(mistakes) = read(&[
            ("LISTEN_ADDR", "here"),
            ("REDIS_URL", "http://x"),
            ("JWT_SECRET", "short"),
            ("LOG_FORMAT", "xml"),
            ("HEARTBEAT_SECONDS", "0"),
            ("MAX_FRAME_BYTES", "-1"),
        ])
        .unwrap_err();
        assert_eq!(mistakes.len(), 6, "{mistakes:?}");
    }

    #[test]
    fn what_was_made_for_development_is_refused_in_production_by_name() {
        const MADE: (&str, &str) = ("JWT_SECRET", "development-5d1c9e0fb2a84c7790d36b1f8e2a4c09");
        assert!(read(&[MADE, ("MODE", "development"), ("ALLOWED_ORIGINS", "*")]).is_ok());
        let BadEnv(mistakes) = read(&[MADE, ("ALLOWED_ORIGINS", "*")]).unwrap_err();
        assert_eq!(mistakes.len(), 2, "{mistakes:?}");
        assert!(mistakes[0].starts_with("JWT_SECRET: was made for development"), "{mistakes:?}");
        assert!(read(&[("MODE", "test")]).unwrap_err().to_string().contains("MODE"));
    }

    #[test]
    fn a_misspelt_setting_level_or_key_is_refused_by_name() {
        let names = ["MAX_SOCKETS_PER_PARTICIPANTS", "JWT_SECRET", "REDIS_URL"].map(str::to_owned);
        let values = |name: &str| match name {
            "REDIS_URL" => Some("redis://localhost".to_owned()),
            "JWT_SECRET" => Some("x".repeat(32)),
            "LOG_LEVEL" => Some("inof".to_owned()),
            "RELAY_KEYS" => Some("zero:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned()),
            _ => None,
        };
        let BadEnv(mistakes) = Config::read(Env::from_fn(values).with_names(names)).unwrap_err();
        for name in ["MAX_SOCKETS_PER_PARTICIPANTS", "JWT_SECRET", "LOG_LEVEL", "RELAY_KEYS"] {
            assert!(mistakes.iter().any(|told| told.starts_with(&format!("{name}:"))), "{name}: {mistakes:?}");
        }
        assert_eq!(mistakes.len(), 4, "{mistakes:?}");
    }

    #[test]
    fn what_is_insecure_and_allowed_is_warned_of() {
        assert_eq!(read(&[]).unwrap().warnings, [""; 0]);
        let config = read(&[("CONTENT_KEYS", "k"), ("ADMIN_ADDR", "0.0.0.0:9082"), ("TRUSTED_PROXIES", "::/0")]);
        assert_eq!(config.unwrap().warnings.len(), 3);
    }

    #[test]
    fn settings_must_fit_each_other() {
        let BadEnv(mistakes) =
            read(&[("IDLE_TIMEOUT_SECONDS", "25"), ("DRAIN_SECONDS", "30"), ("PRESENCE_TTL_SECONDS", "4")])
                .unwrap_err();
        assert_eq!(mistakes.len(), 3, "{mistakes:?}");
    }

    #[test]
    fn a_log_outlives_the_time_between_two_comparisons() {
        let BadEnv(mistakes) = read(&[("POSITION_CHECK_SECONDS", "31"), ("EVENT_LOG_TTL_SECONDS", "60")]).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].starts_with("POSITION_CHECK_SECONDS: "), "{mistakes:?}");
        let life = |variables| read(variables).unwrap().marker_life().as_secs();
        assert_eq!(life(&[("POSITION_CHECK_SECONDS", "30"), ("EVENT_LOG_TTL_SECONDS", "60")]), 60);
        assert_eq!(life(&[]), 120);
        assert_eq!(life(&[("POSITION_CHECK_SECONDS", "600")]), 1200);
    }

    #[test]
    fn no_setting_is_listed_twice() {
        let names: std::collections::HashSet<_> = SETTINGS.iter().map(|setting| setting.name).collect();
        assert_eq!(names.len(), SETTINGS.len());
    }
}
