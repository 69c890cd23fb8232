//! One server: whether it answers, and the replacement of connections that were cut without a word.

use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike, EventInterface};
use fred::types::config::Server;
use parking_lot::Mutex;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::connection::Connected;
use super::health::is_answer;

/// How often a single server is asked whether it is alive.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The same for a node of a cluster: others are not to wait for what is sent to one that is dead.
const NODE_HEARTBEAT: Duration = Duration::from_millis(250);
/// A node of a cluster that does not answer for so long is down until it does.
const SILENT_AFTER: Duration = Duration::from_millis(750);
/// Between two looks whether there is a first connection.
const CONNECTING: Duration = Duration::from_millis(50);

/// How a node is doing. It is not used for a single server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It was not connected yet. Commands wait for that.
    Starting,
    /// It answers, as far as anybody knows.
    Up,
    /// It does not answer. Nothing is sent to it, and nothing waits for it.
    Down,
    /// It serves nothing any more, and has no connection.
    Ended,
}

/// What concerns all nodes.
#[derive(Debug, Clone, Copy)]
pub(super) enum News {
    /// What the node was given before this may be lost.
    Lost(Instant),
    /// It has answered.
    Answered,
}

pub(super) struct Node {
    pub(super) server: Server,
    pub(super) client: Client,
    /// Whether it is one of several, which do not wait for each other.
    is_one_of_many: bool,
    standing: watch::Sender<Standing>,
    proven: Mutex<Instant>,
}

impl Node {
    pub(super) fn new(server: Server, client: Client, is_one_of_many: bool) -> Self {
        let (standing, proven) = (watch::Sender::new(Standing::Starting), Mutex::new(Instant::now()));
        Self { server, client, is_one_of_many, standing, proven }
    }

    /// Whether a command may be sent to it.
    pub(super) fn is_usable(&self) -> bool {
        matches!(*self.standing.borrow(), Standing::Starting | Standing::Up)
    }

    /// Whether it answers.
    pub(super) fn is_up(&self) -> bool {
        *self.standing.borrow() == Standing::Up
    }

    /// It answered to something that was asked then.
    pub(super) fn proven(&self) -> Instant {
        *self.proven.lock()
    }

    /// It serves nothing any more.
    pub(super) fn end(&self) {
        self.standing.send_replace(Standing::Ended);
    }

    /// Watches its connection until it has [ended](Self::end); the connection ends with this.
    pub(super) async fn keep(&self, redis: Connected, hear: impl Fn(News)) {
        let mut standing = self.standing.subscribe();
        tokio::select! {
            () = self.watch(redis, hear) => {}
            _ = standing.wait_for(|standing| *standing == Standing::Ended) => {}
        }
    }

    async fn watch(&self, mut redis: Connected, hear: impl Fn(News)) {
        let mut reconnected = redis.client.reconnect_rx();
        self.wait_for_first_connection(&mut redis).await;
        // It replaces none.
        any(&mut reconnected);
        let every = if self.is_one_of_many { NODE_HEARTBEAT } else { HEARTBEAT };
        loop {
            let asked = Instant::now();
            let pinged = self.ping(&redis.client).await;
            if any(&mut reconnected) {
                hear(News::Lost(asked));
            }
            match pinged {
                Err(error) if !is_answer(&error) => self.does_not_answer(&mut redis, &error, &hear).await,
                // One that is loading, say, will take what it is given, or say why not. It proves nothing.
                Err(_) => self.rise(),
                Ok(()) => {
                    *self.proven.lock() = asked;
                    self.rise();
                    hear(News::Answered);
                }
            }
            sleep(every).await;
        }
    }

    async fn wait_for_first_connection(&self, redis: &mut Connected) {
        let since = Instant::now();
        while !redis.client.is_connected() {
            if self.is_one_of_many && since.elapsed() >= SILENT_AFTER && self.fall() {
                // What waits for it has waited long enough.
                redis.renew().await;
            }
            sleep(CONNECTING).await;
        }
    }

    async fn ping(&self, client: &Client) -> Result<(), Error> {
        if !self.is_one_of_many {
            return client.ping(None).await;
        }
        if self.is_usable() {
            if !client.is_connected() {
                return Err(Error::new(ErrorKind::IO, "the connection is broken"));
            }
            let silent = |_| Error::new(ErrorKind::Timeout, "it is silent");
            return timeout(SILENT_AFTER, client.ping(None)).await.map_err(silent)?;
        }
        // While it connects. That may take longer.
        client.ping(None).await
    }

    async fn does_not_answer(&self, redis: &mut Connected, error: &Error, hear: &impl Fn(News)) {
        let is_silent = *error.kind() == ErrorKind::Timeout;
        if !self.is_one_of_many {
            // One that knows that it is cut off is on its way back already.
            if is_silent && redis.client.is_connected() {
                tracing::warn!("Redis is silent: connecting anew");
                redis.renew().await;
            }
        } else if self.fall() {
            tracing::warn!(node = %self.server, error = error.details(), "a node of Redis does not answer: its keys wait for it alone");
            hear(News::Lost(Instant::now()));
            // What is under way to it fails now, and what waits for it is never sent.
            redis.renew().await;
        } else if is_silent {
            redis.renew().await;
        }
    }

    /// Returns whether it was not down before.
    fn fall(&self) -> bool {
        self.standing.send_if_modified(|standing| match standing {
            Standing::Starting | Standing::Up => {
                *standing = Standing::Down;
                true
            }
            Standing::Down | Standing::Ended => false,
        })
    }

    fn rise(&self) {
        let mut was_down = false;
        self.standing.send_if_modified(|standing| match standing {
            Standing::Starting | Standing::Down => {
                was_down = *standing == Standing::Down;
                *standing = Standing::Up;
                true
            }
            Standing::Up | Standing::Ended => false,
        });
        if was_down {
            tracing::info!(node = %self.server, "a node of Redis answers again");
        }
    }
}

/// Whether there was anything to hear.
fn any<T: Clone>(receiver: &mut Receiver<T>) -> bool {
    let mut heard = false;
    while !matches!(receiver.try_recv(), Err(TryRecvError::Empty | TryRecvError::Closed)) {
        heard = true;
    }
    heard
}
