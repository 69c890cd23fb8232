//! A port and the timeouts of its connections (HTTP/1.1).
//!
//! The number of connections is bounded (`shared::kit::net::accept`). Every wait has a limit: [`HEADER_TIMEOUT`] for a request's
//! header, [`IDLE_TIMEOUT`] between requests, [`WRITE_TIMEOUT`] for a client that does not read.

mod timed_stream;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use poem::http::uri::Scheme;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Endpoint, Request, Response};
use shared::contract::http::problem_stream::ProblemStream;
use shared::kit::net::accept::{AcceptLoop, AcceptMetrics, Accepted, Drain};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use crate::detached_request::{DetachOnDrop, DetachedTasks};
use crate::limits::connection::Connection;
use timed_stream::{HeaderTimer, TimedStream, Timeouts};

/// From the first to the last byte of a request's header.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// From the accept to the first byte.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(15);
/// Between two requests.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// A larger header is answered with 431.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// How long a client may leave a response unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// Every timeout of the admin port: it has few connections.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Counters of the public port.
const PUBLIC_METRICS: AcceptMetrics = AcceptMetrics {
    throttled: Some("ehr_chat_http_connections_throttled_total"),
    errors: "ehr_chat_http_accept_errors_total",
};

/// A port and its endpoint.
pub(crate) struct Server<E> {
    accept_loop: AcceptLoop,
    endpoint: Arc<E>,
    timeouts: Timeouts,
    /// Only the public port counts its connections and unparsable requests.
    is_public: bool,
}

impl<E> Server<E>
where
    E: Endpoint<Output = Response> + 'static,
{
    /// Serves `endpoint` to at most `connections` clients at a time; further clients wait in the kernel's queue.
    pub(crate) fn new(listener: TcpListener, endpoint: E, connections: usize) -> Self {
        let accept_loop = AcceptLoop::new(listener, Arc::new(Semaphore::new(connections)), PUBLIC_METRICS);
        let timeouts =
            Timeouts { head: HEADER_TIMEOUT, first: FIRST_BYTE_TIMEOUT, idle: IDLE_TIMEOUT, unread: WRITE_TIMEOUT };
        Self { accept_loop, endpoint: Arc::new(endpoint), timeouts, is_public: true }
    }

    /// With the timeouts of the admin port.
    pub(crate) fn for_admin(self) -> Self {
        let all = ADMIN_TIMEOUT;
        let accept_loop = self.accept_loop.with_metrics(AcceptMetrics { throttled: None, ..PUBLIC_METRICS });
        let timeouts = Timeouts { head: all, first: all, idle: all, unread: all };
        Self { accept_loop, timeouts, is_public: false, ..self }
    }

    /// Accepts until `stop`. Then open requests may finish, for at most `drain_timeout`.
    pub(crate) async fn run(self, stop: impl Future<Output = ()>, drain_timeout: Duration) {
        let Self { accept_loop, endpoint, timeouts, is_public } = self;
        let serve = |Accepted { tcp, peer, permit }, drain: &Drain| {
            let (endpoint, stopping) = (endpoint.clone(), drain.stopping.clone());
            let timer = Arc::new(HeaderTimer::new(timeouts));
            let (tasks, cancel) = (drain.tasks.clone(), drain.late.clone());
            let detached = Arc::new(DetachedTasks { tasks, cancel, permit });
            async move {
                let _open = is_public.then(OpenConnection::begin);
                serve(tcp, peer, timer, (endpoint, detached), stopping, is_public).await;
            }
        };
        accept_loop.run_until(stop, drain_timeout, serve).await;
    }
}

/// Counts an open connection, even if its task panics.
struct OpenConnection;

impl OpenConnection {
    fn begin() -> Self {
        metrics::gauge!("ehr_chat_http_connections").increment(1.0);
        Self
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        metrics::gauge!("ehr_chat_http_connections").decrement(1.0);
    }
}

/// Where requests continue whose connection has ended.
type DetachedRequests = Arc<DetachedTasks<OwnedSemaphorePermit>>;

/// Serves one connection until it ends, or until it is idle after the server has stopped.
async fn serve<E>(
    tcp: TcpStream,
    peer: SocketAddr,
    timer: Arc<HeaderTimer>,
    (endpoint, detached): (Arc<E>, DetachedRequests),
    stopping: CancellationToken,
    is_public: bool,
) where
    E: Endpoint<Output = Response> + 'static,
{
    let local = tcp.local_addr().unwrap_or(peer);
    let handle = Connection::default();
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        timer.header_complete();
        let timer = timer.clone();
        let mut request = Request::from((request, LocalAddr(local.into()), RemoteAddr(peer.into()), Scheme::HTTP));
        request.extensions_mut().insert(handle.clone());
        let endpoint = endpoint.clone();
        let work = async move {
            let response = endpoint.get_response(request).await;
            timer.start_waiting();
            Ok::<hyper::Response<_>, Infallible>(response.into())
        };
        DetachOnDrop::new(work, detached.clone())
    });
    let mut http = http1::Builder::new();
    // Hyper's own timer would be created and dropped for every request.
    http.header_read_timeout(None).max_buf_size(MAX_HEADER_BYTES);
    let io = ProblemStream::new(TimedStream { tcp, timer: timer.clone() }, MAX_HEADER_BYTES);
    let mut connection = http.serve_connection(TokioIo::new(io), service);
    let mut is_stopping = false;
    loop {
        tokio::select! {
            ended = &mut connection => {
                // After other errors the client can receive nothing.
                if ended.is_err_and(|error| error.is_parse()) {
                    let io = connection.into_parts().io.into_inner();
                    if is_public {
                        count_unparsable(io.library_status().unwrap_or(400));
                    }
                    io.close_unparsable().await;
                }
                return;
            }
            () = stopping.cancelled(), if !is_stopping => {
                is_stopping = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
            () = handle.aborted() => {
                metrics::counter!("ehr_chat_http_unread_responses_total").increment(1);
                return;
            }
            () = sleep_until(timer.next_check()) => {
                if timer.is_header_overdue() {
                    break;
                }
                if timer.is_write_timed_out() {
                    metrics::counter!("ehr_chat_http_unread_responses_total").increment(1);
                    return;
                }
                if timer.is_idle() {
                    return;
                }
            }
        }
    }
    metrics::counter!("ehr_chat_http_header_timeouts_total").increment(1);
    connection.into_parts().io.into_inner().close_timed_out().await;
}

/// Counts a request that could not be parsed.
fn count_unparsable(status: u16) {
    let labels = [("route", "other".to_owned()), ("method", "other".to_owned()), ("status", status.to_string())];
    metrics::counter!("ehr_chat_http_requests_total", &labels).increment(1);
}

#[cfg(test)]
mod tests;
