//! The public port: serves the handshake of each connection, then starts the session.
//!
//! Pending handshakes are bounded in number and in time.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use shared::contract::http::problem_stream::ProblemStream;
use shared::kit::net::accept::{AcceptLoop, AcceptMetrics, Accepted};
use shared::kit::shutdown::fail_point;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::handshake::{self, Upgrade};
use crate::session::{self, Session, SessionTask};
use crate::socket::drain_slot;
use crate::state::AppState;

/// Pending handshakes. Further connections wait in the kernel's accept queue
/// (`ehr_chat_gateway_handshakes_throttled_total`).
pub(crate) const MAX_PENDING_HANDSHAKES: usize = 4096;
/// Largest request header.
pub(crate) const MAX_HEADER_BYTES: usize = 16 * 1024;
/// Bytes that the kernel may buffer beyond what it can send at once.
const MAX_UNSENT_BYTES: u32 = 32 * 1024;

/// Accepts until this future is dropped. It spawns connections on `tasks`.
pub(crate) async fn accept(app: Arc<AppState>, listener: TcpListener, tasks: TaskTracker) {
    let metrics = AcceptMetrics {
        throttled: Some("ehr_chat_gateway_handshakes_throttled_total"),
        errors: "ehr_chat_gateway_accept_errors_total",
    };
    // Unsent bytes belong in the outbound queue, which is bounded and shares frames between sockets.
    let accept_loop =
        AcceptLoop::new(listener, app.handshake_permits.clone(), metrics).with_max_unsent(MAX_UNSENT_BYTES);
    let ids = AtomicU64::new(0);
    let serve = |Accepted { tcp, peer, permit }| {
        let drain_slot = drain_slot(ids.fetch_add(1, Ordering::Relaxed));
        let (app, sockets) = (app.clone(), tasks.clone());
        async move {
            fail_point("socket");
            let socket = serve_handshake(&app, tcp, peer.ip()).await;
            let Some((tcp, already_read, socket)) = socket else { return };
            // A rejected socket holds its handshake permit until it is closed.
            let _rejection_permit = matches!(socket, Upgrade::Rejected(_)).then_some(permit);
            match socket {
                // A separate task, so that the session does not keep the memory of the handshake.
                Upgrade::Accepted(accepted) => {
                    sockets.spawn(SessionTask::from(Session::new(app, tcp, &already_read, *accepted, drain_slot)));
                }
                Upgrade::Rejected(close) => {
                    session::reject(tcp, &already_read, close, app.config.session.max_frame_bytes).await;
                }
            }
        }
    };
    accept_loop.run(&tasks, serve).await;
}

/// Serves one request. Returns the connection if a socket follows. Otherwise the request was answered and closed.
async fn serve_handshake(
    app: &Arc<AppState>,
    tcp: TcpStream,
    peer: IpAddr,
) -> Option<(TcpStream, bytes::Bytes, Upgrade)> {
    let upgrade: Mutex<Option<Upgrade>> = Mutex::new(None);
    let has_request = AtomicBool::new(false);
    let service = service_fn(|request| {
        has_request.store(true, Ordering::Relaxed);
        let upgrade = &upgrade;
        Box::pin(async move {
            let (response, socket) = handshake::respond(app, request, peer).await;
            *upgrade.lock() = socket;
            Ok::<_, Infallible>(response)
        })
    });
    let mut http = http1::Builder::new();
    http.max_buf_size(MAX_HEADER_BYTES).half_close(false);
    let mut connection = http.serve_connection(TokioIo::new(ProblemStream::new(tcp, MAX_HEADER_BYTES)), service);
    let limit = app.config.http.handshake_timeout;
    let done = timeout(limit, poll_fn(|context| connection.poll_without_shutdown(context))).await;
    let parts = connection.into_parts();
    let io = parts.io.into_inner();
    let has_request = has_request.load(Ordering::Relaxed);
    match done {
        Ok(Ok(())) => {
            let upgrade = upgrade.lock().take();
            if let Some(upgrade) = upgrade {
                return Some((io.into_inner(), parts.read_buf, upgrade));
            }
        }
        Ok(Err(error)) if error.is_parse() && !has_request => {
            metrics::counter!("ehr_chat_gateway_handshakes_total", "outcome" => "invalid").increment(1);
            io.close_unparsable().await;
            return None;
        }
        // The client is gone.
        Ok(Err(_)) => {}
        Err(_) if !has_request => {
            metrics::counter!("ehr_chat_gateway_handshakes_total", "outcome" => "too_slow").increment(1);
            io.close_timed_out().await;
            return None;
        }
        Err(_) => {}
    }
    let _gone = timeout(limit, io.into_inner().shutdown()).await;
    None
}
