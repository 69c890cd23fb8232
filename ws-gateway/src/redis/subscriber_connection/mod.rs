//! A connection to one server, for subscriptions only. Of our own, because through the client library an event costs more
//! than all else that this gateway does with it, and because the library keeps to itself what Redis says about subscriptions.
//!
//! It is two ends: [`SubscriberWriter`] asks, [`SubscriberReader`] hears. Neither survives the connection, and nothing is ever sent again.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use fred::types::config::Server;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use uuid::Uuid;

use crate::redis::resp::{self, InvalidResp, Reply};

/// Room for what is read at a time.
const READ_BYTES: usize = 64 * 1024;
/// What an event may make the buffer grow to for good.
const MAX_IDLE_BUFFER_BYTES: usize = 4 * READ_BYTES;

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

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The end that asks. Clones are one.
#[derive(Clone)]
pub(crate) struct SubscriberWriter {
    writer: Arc<tokio::sync::Mutex<WriteHalf<Box<dyn Stream>>>>,
    replies: Arc<ReplyQueue>,
    reply_timeout: Duration,
}

/// The end that hears. Answers arrive only while it is asked for what comes next.
pub(crate) struct SubscriberReader {
    reader: ReadHalf<Box<dyn Stream>>,
    replies: Arc<ReplyQueue>,
    buffer: Vec<u8>,
    /// Of `buffer`: read and not yet heard.
    filled: std::ops::Range<usize>,
}

#[derive(Default)]
struct ReplyQueue {
    pending: Mutex<VecDeque<PendingReply>>,
    /// When something was heard last.
    last_received_at: Mutex<Option<Instant>>,
}

/// What waits for an answer. Redis answers in order.
struct PendingReply {
    /// What the answer must be.
    token: String,
    outcome: BarrierReply,
    done: oneshot::Sender<Result<BarrierReply, ConnectionError>>,
}

/// What Redis has said before it answered a question.
#[derive(Debug, Default)]
pub(crate) struct BarrierReply {
    /// Channels whose subscription it has confirmed, and not ended since.
    pub(crate) subscribed: Vec<String>,
    /// Its refusals.
    pub(crate) errors: Vec<String>,
}

/// What concerns others than who has asked.
#[derive(PartialEq, Eq)]
pub(crate) enum Push<'a> {
    Event {
        channel: &'a str,
        payload: &'a [u8],
    },
    /// A subscription has ended, whoever wanted that.
    Unsubscribed(&'a str),
}

/// An event is what somebody wrote.
impl fmt::Debug for Push<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event { channel, .. } => f.debug_struct("Event").field("channel", channel).finish_non_exhaustive(),
            Self::Unsubscribed(channel) => f.debug_tuple("Unsubscribed").field(channel).finish(),
        }
    }
}

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

impl SubscriberWriter {
    /// Sends commands and a question behind them that nothing else asks: its answer is the proof that all of them were done,
    /// or refused. It waits for as long as anything is heard, since the answer stands behind whatever was published before.
    pub(crate) async fn send_with_barrier(&self, mut commands: Vec<u8>) -> Result<BarrierReply, ConnectionError> {
        let token = Uuid::now_v7().to_string();
        command(&mut commands, &["PING", &token]);
        let (done, answered) = oneshot::channel();
        let asking = async {
            let mut writer = self.writer.lock().await;
            // Under the lock: questions are known in the order in which they are sent.
            self.replies.pending.lock().push_back(PendingReply { token, outcome: BarrierReply::default(), done });
            writer.write_all(&commands).await?;
            writer.flush().await?;
            drop(writer);
            answered.await.map_err(|_| ConnectionError::Closed)?
        };
        let mut asking = pin!(asking);
        let mut since = Instant::now();
        loop {
            if let Ok(answered) = timeout_at(since + self.reply_timeout, &mut asking).await {
                return answered;
            }
            let last_received_at = *self.replies.last_received_at.lock();
            since = last_received_at.filter(|at| *at > since).ok_or(ConnectionError::Timeout)?;
        }
    }
}

impl ReplyQueue {
    fn answer(&self, answer: &[u8]) -> Result<(), ConnectionError> {
        let pending = self.pending.lock().pop_front().ok_or(ConnectionError::UnexpectedReply)?;
        if pending.token.as_bytes() != answer {
            return Err(ConnectionError::UnexpectedReply);
        }
        // Who gave up waiting is not there to hear it.
        let _gone = pending.done.send(Ok(pending.outcome));
        Ok(())
    }

    /// What Redis has refused whoever is the next to be answered.
    fn next_error(&self) -> Option<String> {
        self.pending.lock().front().and_then(|pending| pending.outcome.errors.first().cloned())
    }

    /// What was confirmed, and ended again before the question behind it was answered, does not count.
    fn remove_subscription(&self, channel: &str) {
        if let Some(pending) = self.pending.lock().front_mut() {
            pending.outcome.subscribed.retain(|confirmed| confirmed != channel);
        }
    }

    /// For whoever is the next to be answered.
    fn with_next(&self, note: impl FnOnce(&mut BarrierReply)) -> Result<(), ConnectionError> {
        self.pending
            .lock()
            .front_mut()
            .map(|pending| note(&mut pending.outcome))
            .ok_or(ConnectionError::UnexpectedReply)
    }
}

impl SubscriberReader {
    /// Waits until more has come. To be given up at any time.
    ///
    /// # Errors
    /// When nothing more will come.
    pub(crate) async fn read_more(&mut self) -> Result<(), ConnectionError> {
        if self.filled.is_empty() {
            self.filled = 0..0;
            if self.buffer.len() > MAX_IDLE_BUFFER_BYTES {
                self.buffer = Vec::new();
            }
        }
        // The beginning of something goes to the front when what is behind it gets short.
        if self.buffer.len() - self.filled.end < READ_BYTES / 2 {
            self.buffer.copy_within(self.filled.clone(), 0);
            self.filled = 0..self.filled.len();
            if self.buffer.len() - self.filled.end < READ_BYTES / 2 {
                self.buffer.resize(self.filled.end + READ_BYTES, 0);
            }
        }
        match self.reader.read(&mut self.buffer[self.filled.end..]).await? {
            0 => Err(ConnectionError::Closed),
            read => {
                self.filled.end += read;
                *self.replies.last_received_at.lock() = Some(Instant::now());
                Ok(())
            }
        }
    }

    /// Hands on all that has come in full, and answers who has asked.
    ///
    /// # Errors
    /// When what has come means nothing.
    pub(crate) fn handle_received(&mut self, mut on_push: impl FnMut(Push<'_>)) -> Result<(), ConnectionError> {
        while let Some((reply, used)) = resp::parse(&self.buffer[self.filled.clone()])? {
            match reply {
                Reply::Event { channel, payload } => on_push(Push::Event { channel, payload }),
                Reply::Push("subscribe" | "ssubscribe", channel) => {
                    self.replies.with_next(|outcome| outcome.subscribed.push(channel.to_owned()))?;
                }
                Reply::Push("unsubscribe" | "sunsubscribe", channel) => {
                    self.replies.remove_subscription(channel);
                    on_push(Push::Unsubscribed(channel));
                }
                Reply::Push(..) | Reply::Other => {}
                Reply::Text(answer) => self.replies.answer(answer)?,
                Reply::Error(error) => self.replies.with_next(|outcome| outcome.errors.push(error.to_owned()))?,
            }
            self.filled.start += used;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
