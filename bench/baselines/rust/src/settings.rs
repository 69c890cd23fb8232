//! Environment variables, the listener, and the line that says that all is up.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};

/// Connections that may wait to be accepted. A backlog that overflows costs a client a second.
const BACKLOG: i32 = 4096;

/// The environment variable `name`.
///
/// # Errors
/// When it is not set.
pub fn required(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set"))
}

/// The environment variable `name` as a number, or `default`.
///
/// # Errors
/// When it is not a number.
pub fn number(name: &str, default: usize) -> Result<usize> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} is not a number")),
        Err(_) => Ok(default),
    }
}

/// Listens on `PORT` of 127.0.0.1, without blocking.
///
/// # Errors
/// When `PORT` is missing, no port, or taken.
pub fn listen() -> Result<TcpListener> {
    let port: u16 = required("PORT")?.parse().context("PORT is not a port")?;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Prints `ready`.
///
/// # Errors
/// When standard output has no reader.
pub fn say_ready() -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(b"ready\n")?;
    Ok(out.flush()?)
}

/// The channel that the request target `/ws?channel=NAME` asks for.
#[must_use]
pub fn channel_of(target: &str) -> Option<&str> {
    let (path, query) = target.split_once('?')?;
    if path != "/ws" {
        return None;
    }
    query.split('&').find_map(|pair| pair.strip_prefix("channel=")).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::channel_of;

    #[test]
    fn channel_comes_from_query() {
        assert_eq!(channel_of("/ws?channel=a:b-1"), Some("a:b-1"));
        assert_eq!(channel_of("/ws?x=1&channel=a"), Some("a"));
        assert_eq!(channel_of("/ws?channel="), None);
        assert_eq!(channel_of("/?channel=a"), None);
        assert_eq!(channel_of("/ws"), None);
    }
}
