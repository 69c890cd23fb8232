//! Clients of Redis that never hang: they reconnect for ever, and every command ends within a deadline.

use std::time::Duration;

use fred::prelude::*;
use fred::types::RespVersion;
use fred::types::config::UnresponsiveConfig;
use shared::env::Secret;

/// Commands that may wait while the connection is busy or away.
const MAX_WAITING_COMMANDS: usize = 50_000;

/// A client that connects in the background: Redis may come later, or go and come back.
/// A command fails after `command_timeout`, connected or not.
///
/// # Errors
/// When the URL is not one of Redis.
pub fn client(url: &Secret, command_timeout: Duration) -> Result<Client, Error> {
    let mut config = Config::from_url(url.expose())?;
    config.fail_fast = false;
    config.version = RespVersion::RESP3;
    let client = Builder::from_config(config)
        .with_performance_config(|performance| performance.default_command_timeout = command_timeout)
        .with_connection_config(|connection| {
            connection.connection_timeout = Duration::from_secs(2);
            connection.internal_command_timeout = Duration::from_secs(2);
            connection.max_command_buffer_len = MAX_WAITING_COMMANDS;
            // A command sent twice may work twice.
            connection.max_command_attempts = 1;
            connection.unresponsive =
                UnresponsiveConfig { max_timeout: Some(command_timeout), interval: Duration::from_millis(500) };
        })
        .set_policy(ReconnectPolicy::new_exponential(0, 50, 1_000, 2))
        .build()?;
    drop(client.connect());
    Ok(client)
}
