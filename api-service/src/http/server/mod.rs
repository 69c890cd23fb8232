//! A port, the public one or that of operators: accepts connections, as many as it may hold, and lets each speak HTTP/1.1.
//!
//! It waits for nobody: a request's head must arrive within [`HEAD_TIMEOUT`], an idle connection ends after
//! [`IDLE_TIMEOUT`], and what cannot be accepted for want of descriptors is tried again after a pause.

pub(crate) mod connection;
pub(crate) mod response_budget;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use poem::http::uri::Scheme;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Endpoint, Request, Response};
use shared::library_answers::WithProblems;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::detached_request::{Detached, Finishing};
use crate::http::server::connection::Connection;

/// From the first byte of a request's head to its last.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// From the beginning of a connection to the first byte that it sends.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(15);
/// Between two requests of a connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// Largest head of a request; a larger one is answered with 431.
const HEAD_BYTES: usize = 16 * 1024;
/// After an accept that failed for want of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a client may take nothing of an answer.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a connection of the admin port may do nothing of what it should: its places are few.
const OPERATORS_PATIENCE: Duration = Duration::from_secs(5);

/// A port and what it serves.
pub(crate) struct Server<E> {
    listener: TcpListener,
    endpoint: Arc<E>,
    room: Arc<Semaphore>,
    patience: Patience,
    /// The metrics of connections and of what nobody can read are those of the public port.
    is_public: bool,
}

/// How long a connection may say nothing.
#[derive(Debug, Clone, Copy)]
struct Patience {
    head: Duration,
    first: Duration,
    idle: Duration,
    unread: Duration,
}

impl<E> Server<E>
where
    E: Endpoint<Output = Response> + 'static,
{
    /// Serves `endpoint` to at most `connections` at a time; more wait in the kernel.
    pub(crate) fn new(listener: TcpListener, endpoint: E, connections: usize) -> Self {
        let room = Arc::new(Semaphore::new(connections));
        let patience =
            Patience { head: HEAD_TIMEOUT, first: FIRST_BYTE_TIMEOUT, idle: IDLE_TIMEOUT, unread: UNREAD_TIMEOUT };
        Self { listener, endpoint: Arc::new(endpoint), room, patience, is_public: true }
    }

    /// The same for the admin port.
    pub(crate) fn for_operators(self) -> Self {
        let all = OPERATORS_PATIENCE;
        Self { patience: Patience { head: all, first: all, idle: all, unread: all }, is_public: false, ..self }
    }

    /// Accepts until `stop`, then lets connections finish what they are at, for `patience` at most.
    pub(crate) async fn run(self, stop: impl Future<Output = ()>, patience: Duration) {
        let (tasks, stopping, late) = (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
        let mut stop = pin!(stop);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = self.accept() => accepted,
            };
            let Some((tcp, peer, permit)) = accepted else { continue };
            let (endpoint, stopping, late) = (self.endpoint.clone(), stopping.clone(), late.clone());
            let head = Arc::new(Head::new(self.patience));
            let detached = Arc::new(Detached { tasks: tasks.clone(), late: late.clone(), place: permit });
            let is_public = self.is_public;
            tasks.spawn(async move {
                let _open = is_public.then(Open::begin);
                tokio::select! {
                    () = serve(tcp, peer, head, (endpoint, detached), stopping, is_public) => {}
                    () = late.cancelled() => {}
                }
            });
        }
        drop(self.listener);
        stopping.cancel();
        tasks.close();
        if timeout(patience, tasks.wait()).await.is_err() {
            late.cancel();
            tasks.wait().await;
        }
    }

    async fn accept(&self) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let permit = match self.room.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                if self.is_public {
                    metrics::counter!("http_connections_held_back_total").increment(1);
                }
                self.room.clone().acquire_owned().await.ok()?
            }
        };
        match self.listener.accept().await {
            Ok((tcp, peer)) => Some((tcp, peer, permit)),
            Err(error) => {
                use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
                if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
                    // Without a pause this would spin: the connection that found no descriptor is still there.
                    metrics::counter!("http_accept_errors_total").increment(1);
                    tracing::error!(%error, "cannot accept a connection");
                    sleep(PAUSE).await;
                }
                None
            }
        }
    }
}

/// Counts a connection for as long as it is open, also when its task panics.
struct Open;

impl Open {
    fn begin() -> Self {
        metrics::gauge!("http_connections").increment(1.0);
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::gauge!("http_connections").decrement(1.0);
    }
}

/// Where requests go on whose connection has ended.
type Elsewhere = Arc<Detached<OwnedSemaphorePermit>>;

/// Speaks HTTP on a connection until it ends, or until it is idle and the server stops.
async fn serve<E>(
    tcp: TcpStream,
    peer: SocketAddr,
    head: Arc<Head>,
    (endpoint, detached): (Arc<E>, Elsewhere),
    stopping: CancellationToken,
    is_public: bool,
) where
    E: Endpoint<Output = Response> + 'static,
{
    let local = tcp.local_addr().unwrap_or(peer);
    let this = Connection::default();
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        head.has_arrived();
        let head = head.clone();
        let mut request = Request::from((request, LocalAddr(local.into()), RemoteAddr(peer.into()), Scheme::HTTP));
        request.extensions_mut().insert(this.clone());
        let endpoint = endpoint.clone();
        let work = async move {
            let response = endpoint.get_response(request).await;
            head.is_awaited();
            Ok::<hyper::Response<_>, Infallible>(response.into())
        };
        Finishing::new(work, detached.clone())
    });
    let mut http = http1::Builder::new();
    // Hyper's own timer would be made and dropped with every request.
    http.header_read_timeout(None).max_buf_size(HEAD_BYTES);
    let io = WithProblems::new(Watched { tcp, head: head.clone() }, HEAD_BYTES);
    let mut connection = http.serve_connection(TokioIo::new(io), service);
    let mut is_stopping = false;
    loop {
        tokio::select! {
            ended = &mut connection => {
                // After other errors there is nobody to say it to.
                if ended.is_err_and(|error| error.is_parse()) {
                    let io = connection.into_parts().io.into_inner();
                    if is_public {
                        count_unreadable(io.refused().unwrap_or(400));
                    }
                    io.end_unreadable().await;
                }
                return;
            }
            () = stopping.cancelled(), if !is_stopping => {
                is_stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            () = this.until_cut() => {
                metrics::counter!("http_unread_answers_total").increment(1);
                return;
            }
            () = sleep_until(head.look_at()) => {
                if head.is_late() {
                    break;
                }
                if head.is_unread() {
                    metrics::counter!("http_unread_answers_total").increment(1);
                    return;
                }
                if head.is_idle() {
                    return;
                }
            }
        }
    }
    metrics::counter!("http_slow_heads_total").increment(1);
    connection.into_parts().io.into_inner().end_late().await;
}

/// Counts a request that could not be read.
fn count_unreadable(status: u16) {
    let labels = [("route", "other".to_owned()), ("method", "other".to_owned()), ("status", status.to_string())];
    metrics::counter!("http_requests_total", &labels).increment(1);
}

/// Since when the head of a request has been arriving, or has been waited for.
struct Head {
    patience: Patience,
    born: Instant,
    /// Milliseconds since `born`, and in the lowest two bits what has begun then.
    since: AtomicU64,
    /// Milliseconds since `born` when the connection took nothing more of an answer, plus one; 0 while it takes.
    stuck: AtomicU64,
}

/// No part of the next request is there.
const IDLE: u64 = 0;
/// The same, since the connection began: nothing else is idle in its very first millisecond.
const NEVER: u64 = IDLE;
/// A part of a head is there without the rest.
const ARRIVING: u64 = 1;
/// A request is being answered.
const BUSY: u64 = 2;

impl Head {
    fn new(patience: Patience) -> Self {
        Self { patience, born: Instant::now(), since: AtomicU64::new(IDLE), stuck: AtomicU64::new(0) }
    }

    /// Something was read: of a head, if one is awaited.
    fn reads(&self) {
        if self.since.load(Ordering::Relaxed) & 3 == IDLE {
            self.begins(ARRIVING);
        }
    }

    fn has_arrived(&self) {
        self.since.store(BUSY, Ordering::Relaxed);
    }

    fn is_awaited(&self) {
        self.begins(IDLE);
    }

    /// Something of an answer was taken, or nothing is.
    fn writes(&self, is_taken: bool) {
        let was_stuck = self.stuck.load(Ordering::Relaxed) > 0;
        if !is_taken && !was_stuck {
            self.stuck.store(self.age() + 1, Ordering::Relaxed);
        }
        if is_taken && was_stuck {
            self.stuck.store(0, Ordering::Relaxed);
            // Whoever reads slowly is not idle.
            if self.since.load(Ordering::Relaxed) & 3 == IDLE {
                self.begins(IDLE);
            }
        }
    }

    fn stuck_since(&self) -> Option<Instant> {
        let stuck = self.stuck.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.born + Duration::from_millis(stuck))
    }

    fn is_unread(&self) -> bool {
        self.stuck_since().is_some_and(|since| since.elapsed() >= self.patience.unread)
    }

    fn age(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(0)
    }

    fn begins(&self, what: u64) {
        self.since.store(self.age() << 2 | what, Ordering::Relaxed);
    }

    fn now(&self) -> (u64, Instant) {
        let since = self.since.load(Ordering::Relaxed);
        (since & 3, self.born + Duration::from_millis(since >> 2))
    }

    fn is_late(&self) -> bool {
        let (what, since) = self.now();
        what == ARRIVING && since.elapsed() >= self.patience.head
    }

    fn is_idle(&self) -> bool {
        let (what, since) = self.now();
        what == IDLE && self.stuck_since().is_none() && since.elapsed() >= self.may_be_idle()
    }

    /// Whoever has never said anything need not have a reason to be there.
    fn may_be_idle(&self) -> Duration {
        match self.since.load(Ordering::Relaxed) {
            NEVER => self.patience.first,
            _ => self.patience.idle,
        }
    }

    /// A head that begins after this was asked for is not late before that.
    fn look_at(&self) -> Instant {
        let later = Instant::now() + self.patience.head.min(self.patience.unread);
        if let Some(since) = self.stuck_since() {
            return later.min(since + self.patience.unread);
        }
        match self.now() {
            (IDLE, since) => later.min(since + self.may_be_idle()),
            (ARRIVING, since) => since + self.patience.head,
            _ => later,
        }
    }
}

/// A connection that tells when something is read from it.
struct Watched {
    tcp: TcpStream,
    head: Arc<Head>,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.tcp).poll_read(cx, buf));
        if buf.filled().len() > before {
            self.head.reads();
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(cx, buf);
        self.head.writes(written.is_ready());
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs);
        self.head.writes(written.is_ready());
        written
    }
}

#[cfg(test)]
mod tests;
