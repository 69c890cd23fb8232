//! Connections to Redis: how long they wait, how often they retry, what they refuse to repeat.
//!
//! The client library's defaults wait for ever and repeat commands that must not be; nothing here does.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::{ClientLike, EventInterface, HeartbeatInterface};
use fred::types::config::{Config, ReconnectPolicy, ServerConfig, UnresponsiveConfig};
use fred::types::{Builder, ConnectHandle, Message, RespVersion};
use shared::shutdown::Shutdown;
use tokio::sync::broadcast;

/// How often an idle connection is asked whether it is alive.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(1);
/// Commands that may wait for a connection; past it they fail at once.
const QUEUED_COMMANDS: usize = 16 * 1024;
/// Messages that the relay may be behind before it counts as lagging and reads the logs.
const MESSAGES_BEHIND: usize = 8 * 1024;

/// `redis://[[user]:password@]host[:port][/database]`. Never shows itself: it may hold a password.
#[derive(Clone)]
pub struct RedisUrl(Config);

impl FromStr for RedisUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.starts_with("redis://") {
            return Err("must begin with redis://");
        }
        let config = Config::from_url_centralized(text).map_err(|_| "is not a URL of a Redis server")?;
        match &config.server {
            ServerConfig::Centralized { server } if !server.host.is_empty() => Ok(Self(config)),
            _ => Err("names no host"),
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Where Redis is, and how long to wait for it.
#[derive(Debug, Clone)]
pub struct Redis {
    url: RedisUrl,
    timeout: Duration,
}

impl Redis {
    /// No connection yet.
    #[must_use]
    pub fn new(url: RedisUrl, timeout: Duration) -> Self {
        Self { url, timeout }
    }

    /// How long a command may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    fn builder(&self) -> Builder {
        let mut config = self.url.0.clone();
        config.version = RespVersion::RESP3;
        let mut builder = Builder::from_config(config);
        builder.with_performance_config(|performance| {
            performance.default_command_timeout = self.timeout;
            performance.broadcast_channel_capacity = MESSAGES_BEHIND;
        });
        builder.with_connection_config(|connection| {
            connection.connection_timeout = self.timeout;
            connection.internal_command_timeout = self.timeout;
            // A command in flight when the connection breaks may have run: who sent it decides whether it may run twice.
            connection.max_command_attempts = 1;
            connection.max_command_buffer_len = QUEUED_COMMANDS;
            connection.unresponsive =
                UnresponsiveConfig { max_timeout: Some(self.timeout), interval: self.timeout / 4 };
            connection.tcp.nodelay = Some(true);
        });
        builder
    }

    /// The client for commands. It connects by itself, again and again, until it is told to quit; commands fail meanwhile.
    ///
    /// # Errors
    /// When the client library refuses its configuration.
    pub fn commands(&self, shutdown: &Shutdown) -> Result<Client, Error> {
        let mut builder = self.builder();
        builder.with_config(|config| config.fail_fast = false);
        // Milliseconds; no end of attempts; the library adds jitter.
        builder.set_policy(ReconnectPolicy::new_exponential(0, 100, 2_000, 2));
        let client = builder.build()?;
        // Ends with `quit`; nobody needs to hear of it.
        drop(client.connect());
        let (ended, pinged) = (shutdown.clone(), client.clone());
        shutdown.spawn(async move {
            tokio::select! {
                // An idle connection that was cut without a word is noticed only when something is asked of it.
                _ = pinged.enable_heartbeat(HEARTBEAT, false) => {}
                () = ended.begun() => {}
            }
        });
        Ok(client)
    }

    /// A connection for subscriptions only.
    ///
    /// # Errors
    /// When Redis cannot be reached, or refuses us.
    pub(crate) async fn subscriber(&self) -> Result<Subscriber, Error> {
        // No reconnect policy: a lost connection ends this value, and the relay starts over from a clean one. The library's
        // own resubscription loses channels without a word.
        let client = self.builder().build()?;
        // Before the first subscription: what comes before a receiver exists is gone.
        let messages = client.message_rx();
        let task = client.connect();
        let subscriber = Subscriber { client, messages, task };
        subscriber.client.wait_for_connect().await?;
        Ok(subscriber)
    }
}

/// A connection for subscriptions. It is never used for data.
pub(crate) struct Subscriber {
    pub(crate) client: Client,
    pub(crate) messages: broadcast::Receiver<Message>,
    /// Ends with the connection.
    pub(crate) task: ConnectHandle,
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // The task owns the TCP connection, which may be half open: nothing to say goodbye to.
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_single_servers_are_accepted() {
        for url in ["redis://localhost", "redis://127.0.0.1:6380", "redis://:secret@redis:6379/2"] {
            assert!(url.parse::<RedisUrl>().is_ok(), "{url}");
        }
    }

    #[test]
    fn other_urls_are_refused_and_none_shows_its_password() {
        for url in ["", "localhost:6379", "http://localhost", "rediss://localhost", "redis://", "redis://h:port"] {
            assert!(url.parse::<RedisUrl>().is_err(), "{url}");
        }
        let url: RedisUrl = "redis://:hunter2@redis".parse().unwrap();
        assert_eq!(format!("{url:?}"), "[redacted]");
    }
}
