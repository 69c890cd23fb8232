//! Opens a connection: TCP, TLS, authentication and RESP3.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use fred::types::config::Server;
use rustls::pki_types::ServerName;
use shared::kit::redis::redact_error;
use tokio::io::split;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::Stream;
use super::error::ConnectionError;
use super::reader::SubscriberReader;
use super::reply_queue::ReplyQueue;
use super::writer::{SubscriberWriter, command};

/// How to connect.
#[derive(Clone)]
pub(in crate::redis) struct ConnectOptions {
    pub(in crate::redis) username: Option<String>,
    pub(in crate::redis) password: Option<String>,
    pub(in crate::redis) tls: Option<TlsConnector>,
    pub(in crate::redis) timeout: Duration,
}

/// It contains a password.
impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Connects and negotiates RESP3, within [`ConnectOptions::timeout`].
pub(in crate::redis) async fn connect(
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

pub(super) fn split_connection(
    stream: Box<dyn Stream>,
    reply_timeout: Duration,
) -> (SubscriberWriter, SubscriberReader) {
    let (reader, writer) = split(stream);
    let replies = Arc::new(ReplyQueue::default());
    let writer = Arc::new(tokio::sync::Mutex::new(writer));
    (
        SubscriberWriter { writer, replies: replies.clone(), reply_timeout },
        SubscriberReader { reader, replies, buffer: Vec::new(), filled: 0..0 },
    )
}

pub(super) async fn hello(
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

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
