//! One command to a server: can you do your work? Asked in its own protocol, so that a port that
//! merely accepts connections does not count.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A server that takes longer is not ready.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// How to ask.
#[derive(Debug, Clone)]
pub(crate) enum Probe {
    /// `GET /readyz` answers 200.
    Http(SocketAddr),
    /// `PING` answers `PONG`.
    Redis { port: u16, password: String },
    /// The answer to a command holds these words.
    RedisReply { port: u16, password: String, command: &'static str, answer: &'static str },
    /// A start-up packet is answered by a request to authenticate, not by "starting up".
    Postgres { port: u16 },
}

impl Probe {
    /// `GET /readyz` on this loopback port.
    pub(crate) fn http(port: u16) -> Self {
        Self::Http((Ipv4Addr::LOCALHOST, port).into())
    }

    /// True when the server is ready now.
    pub(crate) async fn passes(&self) -> bool {
        tokio::time::timeout(PROBE_TIMEOUT, self.ask()).await.is_ok_and(|answer| answer.unwrap_or(false))
    }

    async fn ask(&self) -> std::io::Result<bool> {
        match self {
            Self::Http(address) => {
                let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
                let answer = exchange(*address, request.as_bytes(), 12).await?;
                Ok(answer.starts_with(b"HTTP/1.") && answer.ends_with(b" 200"))
            }
            Self::Redis { port, password } => {
                let request = format!("AUTH {password}\r\nPING\r\n");
                Ok(exchange((Ipv4Addr::LOCALHOST, *port).into(), request.as_bytes(), 12).await? == b"+OK\r\n+PONG\r\n")
            }
            Self::RedisReply { port, password, command, answer } => {
                let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await?;
                stream.write_all(format!("AUTH {password}\r\n{command}\r\nQUIT\r\n").as_bytes()).await?;
                // A Sentinel knows no `QUIT`.
                stream.shutdown().await?;
                let mut output = String::new();
                stream.read_to_string(&mut output).await?;
                Ok(output.contains(answer))
            }
            Self::Postgres { port } => {
                let answer = exchange((Ipv4Addr::LOCALHOST, *port).into(), &startup_packet(), 1).await?;
                Ok(answer == b"R")
            }
        }
    }
}

/// Sends `request` and gives the first `length` bytes of the answer.
async fn exchange(address: SocketAddr, request: &[u8], length: usize) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request).await?;
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// Protocol 3.0's `StartupMessage` (PostgreSQL documentation, "Message Formats").
fn startup_packet() -> Vec<u8> {
    let body = b"\x00\x03\x00\x00user\0chat\0database\0chat\0\0";
    let length = u32::try_from(body.len() + 4).unwrap_or_default();
    [&length.to_be_bytes()[..], body].concat()
}
