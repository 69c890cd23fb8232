//! A connection to one server, for subscriptions only. Of our own, because through the client library an event costs more
//! than all else that this gateway does with it, and because the library keeps to itself what Redis says about subscriptions.
//!
//! It is two ends: [`Link`] asks, [`Ear`] hears. Neither survives the connection, and nothing is ever sent again.

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

use crate::redis::resp::{self, Nonsense, Said};

/// Room for what is read at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// What an event may make the buffer grow to for good.
const KEPT_BYTES: usize = 4 * CHUNK_BYTES;

/// Why a link is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Its debug form names the reason, as the client library's errors do.
    #[error("tls: {0:?}")]
    Tls(io::Error),
    #[error(transparent)]
    Nonsense(#[from] Nonsense),
    #[error("redis: {0}")]
    Refused(String),
    #[error("redis closed the connection")]
    Closed,
    #[error("redis does not answer")]
    Silent,
    #[error("redis answers to something else")]
    Confused,
}

/// How to connect.
#[derive(Clone)]
pub(super) struct Terms {
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) tls: Option<TlsConnector>,
    pub(super) timeout: Duration,
}

/// It holds a password.
impl fmt::Debug for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The end that asks. Clones are one.
#[derive(Clone)]
pub(crate) struct Link {
    writer: Arc<tokio::sync::Mutex<WriteHalf<Box<dyn Stream>>>>,
    asked: Arc<Asked>,
    patience: Duration,
}

/// The end that hears. Answers arrive only while it is asked for what comes next.
pub(crate) struct Ear {
    reader: ReadHalf<Box<dyn Stream>>,
    asked: Arc<Asked>,
    buffer: Vec<u8>,
    /// Of `buffer`: read and not yet heard.
    filled: std::ops::Range<usize>,
}

#[derive(Default)]
struct Asked {
    questions: Mutex<VecDeque<Question>>,
    /// When something was heard last.
    heard_at: Mutex<Option<Instant>>,
}

/// What waits for an answer. Redis answers in order.
struct Question {
    /// What the answer must be.
    text: String,
    outcome: Outcome,
    done: oneshot::Sender<Result<Outcome, LinkError>>,
}

/// What Redis has said before it answered a question.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Channels whose subscription it has confirmed, and not ended since.
    pub(crate) subscribed: Vec<String>,
    /// Its refusals.
    pub(crate) refusals: Vec<String>,
}

/// What concerns others than who has asked.
#[derive(PartialEq, Eq)]
pub(crate) enum Heard<'a> {
    Event {
        channel: &'a str,
        payload: &'a [u8],
    },
    /// A subscription has ended, whoever wanted that.
    Unsubscribed(&'a str),
}

/// An event is what somebody wrote.
impl fmt::Debug for Heard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event { channel, .. } => f.debug_struct("Event").field("channel", channel).finish_non_exhaustive(),
            Self::Unsubscribed(channel) => f.debug_tuple("Unsubscribed").field(channel).finish(),
        }
    }
}

/// Connects, and agrees on RESP3. Takes no longer than [`Terms::timeout`].
pub(super) async fn connect(server: &Server, terms: &Terms) -> Result<(Link, Ear), LinkError> {
    timeout(terms.timeout, open(server, terms)).await.map_err(|_| LinkError::Silent)?
}

async fn open(server: &Server, terms: &Terms) -> Result<(Link, Ear), LinkError> {
    let host = server.host.to_string();
    let tcp = TcpStream::connect((host.as_str(), server.port)).await?;
    tcp.set_nodelay(true)?;
    // What the kernel cannot deliver for so long ends the connection.
    socket2::SockRef::from(&tcp).set_tcp_user_timeout(Some(terms.timeout))?;
    let stream: Box<dyn Stream> = match &terms.tls {
        None => Box::new(tcp),
        Some(tls) => {
            let name = ServerName::try_from(host).map_err(|_| io::Error::other("no name for a certificate"))?;
            Box::new(tls.connect(name, tcp).await.map_err(LinkError::Tls)?)
        }
    };
    greet(stream, terms).await
}

fn ends(stream: Box<dyn Stream>, patience: Duration) -> (Link, Ear) {
    let (reader, writer) = split(stream);
    let asked = Arc::new(Asked::default());
    let writer = Arc::new(tokio::sync::Mutex::new(writer));
    (Link { writer, asked: asked.clone(), patience }, Ear { reader, asked, buffer: Vec::new(), filled: 0..0 })
}

async fn greet(stream: Box<dyn Stream>, terms: &Terms) -> Result<(Link, Ear), LinkError> {
    let (link, mut ear) = ends(stream, terms.timeout);
    let mut hello = vec!["HELLO", "3"];
    if let Some(password) = &terms.password {
        hello.extend(["AUTH", terms.username.as_deref().unwrap_or("default"), password]);
    }
    let mut greeting = Vec::new();
    command(&mut greeting, &hello);
    let mut greeted = Box::pin(link.ask(greeting));
    loop {
        tokio::select! {
            // Asks before anything is heard: who refuses every client does so at once, and is to be understood.
            biased;
            outcome = &mut greeted => {
                let outcome = outcome?;
                drop(greeted);
                return match outcome.refusals.first() {
                    Some(refusal) => Err(LinkError::Refused(reason(refusal))),
                    None => Ok((link, ear)),
                };
            }
            heard = ear.listen() => {
                heard?;
                ear.hear(|_| {})?;
                // Then the question behind it is refused as well, and there is no answer to wait for.
                if let Some(refusal) = ear.asked.refusal() {
                    return Err(LinkError::Refused(reason(&refusal)));
                }
            }
        }
    }
}

/// What may be told of a refused greeting: a server that does not know the command repeats it, with the password in it.
pub(super) fn reason(refusal: &str) -> String {
    const FULL: &str = "ERR max number of clients reached";
    if refusal == FULL {
        return FULL.to_owned();
    }
    refusal.split_whitespace().next().unwrap_or_default().to_owned()
}

/// Appends a command.
pub(crate) fn command(out: &mut Vec<u8>, words: &[&str]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
}

impl Link {
    /// Sends commands and a question behind them that nothing else asks: its answer is the proof that all of them were done,
    /// or refused. It waits for as long as anything is heard, since the answer stands behind whatever was published before.
    pub(crate) async fn ask(&self, mut commands: Vec<u8>) -> Result<Outcome, LinkError> {
        let text = Uuid::now_v7().to_string();
        command(&mut commands, &["PING", &text]);
        let (done, answered) = oneshot::channel();
        let asking = async {
            let mut writer = self.writer.lock().await;
            // Under the lock: questions are known in the order in which they are sent.
            self.asked.questions.lock().push_back(Question { text, outcome: Outcome::default(), done });
            writer.write_all(&commands).await?;
            writer.flush().await?;
            drop(writer);
            answered.await.map_err(|_| LinkError::Closed)?
        };
        let mut asking = pin!(asking);
        let mut since = Instant::now();
        loop {
            if let Ok(answered) = timeout_at(since + self.patience, &mut asking).await {
                return answered;
            }
            let heard_at = *self.asked.heard_at.lock();
            since = heard_at.filter(|at| *at > since).ok_or(LinkError::Silent)?;
        }
    }
}

impl Asked {
    fn answer(&self, answer: &[u8]) -> Result<(), LinkError> {
        let question = self.questions.lock().pop_front().ok_or(LinkError::Confused)?;
        if question.text.as_bytes() != answer {
            return Err(LinkError::Confused);
        }
        // Who gave up waiting is not there to hear it.
        let _gone = question.done.send(Ok(question.outcome));
        Ok(())
    }

    /// What Redis has refused whoever is the next to be answered.
    fn refusal(&self) -> Option<String> {
        self.questions.lock().front().and_then(|question| question.outcome.refusals.first().cloned())
    }

    /// What was confirmed, and ended again before the question behind it was answered, does not count.
    fn forget(&self, channel: &str) {
        if let Some(question) = self.questions.lock().front_mut() {
            question.outcome.subscribed.retain(|confirmed| confirmed != channel);
        }
    }

    /// For whoever is the next to be answered.
    fn note(&self, note: impl FnOnce(&mut Outcome)) -> Result<(), LinkError> {
        self.questions.lock().front_mut().map(|question| note(&mut question.outcome)).ok_or(LinkError::Confused)
    }
}

impl Ear {
    /// Waits until more has come. To be given up at any time.
    ///
    /// # Errors
    /// When nothing more will come.
    pub(crate) async fn listen(&mut self) -> Result<(), LinkError> {
        if self.filled.is_empty() {
            self.filled = 0..0;
            if self.buffer.len() > KEPT_BYTES {
                self.buffer = Vec::new();
            }
        }
        // The beginning of something goes to the front when what is behind it gets short.
        if self.buffer.len() - self.filled.end < CHUNK_BYTES / 2 {
            self.buffer.copy_within(self.filled.clone(), 0);
            self.filled = 0..self.filled.len();
            if self.buffer.len() - self.filled.end < CHUNK_BYTES / 2 {
                self.buffer.resize(self.filled.end + CHUNK_BYTES, 0);
            }
        }
        match self.reader.read(&mut self.buffer[self.filled.end..]).await? {
            0 => Err(LinkError::Closed),
            read => {
                self.filled.end += read;
                *self.asked.heard_at.lock() = Some(Instant::now());
                Ok(())
            }
        }
    }

    /// Hands on all that has come in full, and answers who has asked.
    ///
    /// # Errors
    /// When what has come means nothing.
    pub(crate) fn hear(&mut self, mut hand_on: impl FnMut(Heard<'_>)) -> Result<(), LinkError> {
        while let Some((said, used)) = resp::read(&self.buffer[self.filled.clone()])? {
            match said {
                Said::Event { channel, payload } => hand_on(Heard::Event { channel, payload }),
                Said::Push("subscribe" | "ssubscribe", channel) => {
                    self.asked.note(|outcome| outcome.subscribed.push(channel.to_owned()))?;
                }
                Said::Push("unsubscribe" | "sunsubscribe", channel) => {
                    self.asked.forget(channel);
                    hand_on(Heard::Unsubscribed(channel));
                }
                Said::Push(..) | Said::Other => {}
                Said::Text(answer) => self.asked.answer(answer)?,
                Said::Error(refusal) => self.asked.note(|outcome| outcome.refusals.push(refusal.to_owned()))?,
            }
            self.filled.start += used;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
