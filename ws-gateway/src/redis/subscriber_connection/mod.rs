//! A connection to one server, for subscriptions only. Of our own, because through the client library an event costs more
//! than all else that this gateway does with it, and because the library keeps to itself what Redis says about subscriptions.
//!
//! It is two ends: [`SubscriberWriter`] asks, [`SubscriberReader`] hears. Neither survives the connection, and nothing is ever sent again.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use fred::types::config::Server;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, split};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Why a link is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Its debug form names the reason, as the client library's errors do.
    #[error("tls: {0:?}")]
    Tls(io::Error),
    #[error(transparent)]
    InvalidResp(#[from] InvalidResp),
    #[error("redis: {0}")]
    Refused(String),
    #[error("redis closed the connection")]
    Closed,
    #[error("redis does not answer")]
    Timeout,
    #[error("redis answers to something else")]
    UnexpectedReply,
}

/// How to connect.
#[derive(Clone)]
pub(super) struct ConnectOptions {
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) tls: Option<TlsConnector>,
    pub(super) timeout: Duration,
}

/// It holds a password.
impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

mod reader;
mod reply_queue;
mod writer;

pub(crate) use reader::{Push, SubscriberReader};
pub(crate) use reply_queue::BarrierReply;
use reply_queue::ReplyQueue;
pub(crate) use writer::SubscriberWriter;

use crate::redis::resp::InvalidResp;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects, and agrees on RESP3. Takes no longer than [`ConnectOptions::timeout`].
pub(super) async fn connect(
    server: &Server,
    options: &ConnectOptions,
) -> Result<(SubscriberWriter, SubscriberReader), ConnectionError> {
    timeout(options.timeout, open(server, options)).await.map_err(|_| ConnectionError::Timeout)?
}

async fn open(
    server: &Server,
    options: &ConnectOptions,
) -> Result<(SubscriberWriter, SubscriberReader), ConnectionError> {
    let host = server.host.to_string();
    let tcp = TcpStream::connect((host.as_str(), server.port)).await?;
    tcp.set_nodelay(true)?;
    // What the kernel cannot deliver for so long ends the connection.
    socket2::SockRef::from(&tcp).set_tcp_user_timeout(Some(options.timeout))?;
    let stream: Box<dyn Stream> = match &options.tls {
        None => Box::new(tcp),
        Some(tls) => {
            let name = ServerName::try_from(host).map_err(|_| io::Error::other("no name for a certificate"))?;
            Box::new(tls.connect(name, tcp).await.map_err(ConnectionError::Tls)?)
        }
    };
    hello(stream, options).await
}

fn split_connection(stream: Box<dyn Stream>, reply_timeout: Duration) -> (SubscriberWriter, SubscriberReader) {
    let (reader, writer) = split(stream);
    let replies = Arc::new(ReplyQueue::default());
    let writer = Arc::new(tokio::sync::Mutex::new(writer));
    (
        SubscriberWriter { writer, replies: replies.clone(), reply_timeout },
        SubscriberReader { reader, replies, buffer: Vec::new(), filled: 0..0 },
    )
}

async fn hello(
    stream: Box<dyn Stream>,
    options: &ConnectOptions,
) -> Result<(SubscriberWriter, SubscriberReader), ConnectionError> {
    let (writer, mut reader) = split_connection(stream, options.timeout);
    let mut hello = vec!["HELLO", "3"];
    if let Some(password) = &options.password {
        hello.extend(["AUTH", options.username.as_deref().unwrap_or("default"), password]);
    }
    let mut greeting = Vec::new();
    command(&mut greeting, &hello);
    let mut greeted = Box::pin(writer.send_with_barrier(greeting));
    loop {
        tokio::select! {
            // Asks before anything is heard: who refuses every client does so at once, and is to be understood.
            biased;
            outcome = &mut greeted => {
                let outcome = outcome?;
                drop(greeted);
                return match outcome.errors.first() {
                    Some(error) => Err(ConnectionError::Refused(redact_error(error))),
                    None => Ok((writer, reader)),
                };
            }
            push = reader.read_more() => {
                push?;
                reader.handle_received(|_| {})?;
                // Then the question behind it is refused as well, and there is no answer to wait for.
                if let Some(error) = reader.replies.next_error() {
                    return Err(ConnectionError::Refused(redact_error(&error)));
                }
            }
        }
    }
}

/// What may be told of a refused greeting: a server that does not know the command repeats it, with the password in it.
pub(super) fn redact_error(error: &str) -> String {
    const FULL: &str = "ERR max number of clients reached";
    if error == FULL {
        return FULL.to_owned();
    }
    error.split_whitespace().next().unwrap_or_default().to_owned()
}

/// Appends a command.
pub(crate) fn command(out: &mut Vec<u8>, words: &[&str]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
}

#[cfg(test)]
mod tests;
