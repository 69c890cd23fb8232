//! A client of Redis that sends a command and waits for its reply. It prepares measurements; it is not measured.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Where Redis is, and its password.
#[derive(Debug, Clone)]
pub(crate) struct RedisAddress {
    pub(crate) socket: SocketAddr,
    pub(crate) password: String,
}

impl RedisAddress {
    /// From `redis://USER:PASSWORD@HOST:PORT`.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let (credentials, place) =
            url.strip_prefix("redis://").and_then(|rest| rest.split_once('@')).context("not a URL of Redis")?;
        let (_, password) = credentials.split_once(':').context("a URL of Redis without a password")?;
        Ok(Self { socket: place.trim_end_matches('/').parse()?, password: password.to_owned() })
    }
}

/// A connection to Redis that asks and waits.
#[derive(Debug)]
pub(crate) struct RedisClient {
    reader: BufReader<TcpStream>,
}

impl RedisClient {
    /// Connects and authenticates.
    pub(crate) fn open(address: &RedisAddress) -> Result<Self> {
        let stream = TcpStream::connect(address.socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut client = Self { reader: BufReader::new(stream) };
        client.ask(&["AUTH", &address.password])?;
        Ok(client)
    }

    /// One command whose answer is a line or a string.
    pub(crate) fn ask(&mut self, command: &[&str]) -> Result<String> {
        self.reader.get_mut().write_all(&encode(command))?;
        self.answer().with_context(|| format!("Redis refuses {:?}", command.first()))
    }

    /// Many commands, encoded, at once. Redis keeps the answers until they are read.
    pub(crate) fn ask_all(&mut self, commands: &[Vec<u8>]) -> Result<()> {
        self.reader.get_mut().write_all(&commands.concat())?;
        commands.iter().try_for_each(|_| self.answer().map(drop))
    }

    /// The connection, for a use of its own.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.reader.into_inner()
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        ensure!(!line.is_empty() && !line.starts_with('-'), "Redis says {line:?}");
        // A script answers with an array of one for the one event that it was given.
        if line.starts_with('*') {
            line.clear();
            self.reader.read_line(&mut line)?;
        }
        if line.starts_with('$') {
            line.clear();
            self.reader.read_line(&mut line)?;
        }
        Ok(line.trim_start_matches(['+', ':']).trim_end().to_owned())
    }
}

/// A command as Redis reads it.
pub(crate) fn encode(command: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
    for word in command {
        bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_url_is_parsed() {
        let address = RedisAddress::parse("redis://default:p4ss@127.0.0.1:6379").unwrap();
        assert_eq!((address.socket.port(), address.password.as_str()), (6379, "p4ss"));
        assert!(RedisAddress::parse("redis://127.0.0.1:6379").is_err());
    }
}
