//! A connection to one server, for subscriptions only.
//!
//! Through the client library an event would cost more than all else that the gateway does with it. The library also
//! hides the confirmations of subscriptions.
//!
//! The connection has two halves: [`SubscriberWriter`] sends commands, [`SubscriberReader`] receives pushes and
//! replies. After a failure neither is used again, and no command is repeated.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use fred::types::config::Server;
use rustls::pki_types::ServerName;
use shared::kit::redis::redact_error;
use tokio::io::{AsyncRead, AsyncWrite, split};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Why a connection failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The debug form contains the reason, as in the client library.
    #[error("tls: {0:?}")]
    Tls(io::Error),
    #[error(transparent)]
    InvalidResp(#[from] InvalidResp),
    #[error("redis: {0}")]
    Rejected(String),
    #[error("redis closed the connection")]
    Closed,
    #[error("redis did not reply in time")]
    Timeout,
    #[error("unexpected reply from redis")]
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

/// It contains a password.
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

/// Connects and negotiates RESP3, within [`ConnectOptions::timeout`].
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
    // Ends a connection with undelivered data after this time.
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
            // Send first: a server that rejects every client does so at once, and its error is to be read.
            biased;
            outcome = &mut greeted => {
                let outcome = outcome?;
                drop(greeted);
                return match outcome.errors.first() {
                    Some(error) => Err(ConnectionError::Rejected(redact_error(error))),
                    None => Ok((writer, reader)),
                };
            }
            push = reader.read_more() => {
                push?;
                reader.handle_received(|_| {})?;
                // The barrier was rejected too, so no reply will follow.
                if let Some(error) = reader.replies.next_error() {
                    return Err(ConnectionError::Rejected(redact_error(&error)));
                }
            }
        }
    }
}

/// Appends a command in RESP.
pub(crate) fn command(out: &mut Vec<u8>, words: &[&str]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
}

#[cfg(test)]
mod tests;
