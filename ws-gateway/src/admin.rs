//! The admin port: metrics and health. It is never public, and it speaks plain HTTP to whoever reaches it.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::gateway::Gateway;
use crate::{handshake, meters};

/// Requests at a time.
const REQUESTS: usize = 64;
/// From connecting to the end of an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a failed accept.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves until this future is dropped. Without `metrics`, which belong to the first server of a process, there are none.
pub(crate) async fn serve(gateway: Arc<Gateway>, listener: TcpListener, metrics: Option<PrometheusHandle>) {
    let slots = Arc::new(Semaphore::new(REQUESTS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let Ok((tcp, peer)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let (gateway, metrics) = (gateway.clone(), metrics.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| respond(&gateway, metrics.as_ref(), request, peer.ip()));
            let connection = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(tcp), service);
            // Who scrapes and goes away has nothing to be told.
            let _gone = timeout(PATIENCE, connection).await;
            drop(slot);
        });
    }
}

async fn respond(
    gateway: &Arc<Gateway>,
    metrics: Option<&PrometheusHandle>,
    request: Request<Incoming>,
    peer: IpAddr,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let readable = matches!(*request.method(), Method::GET | Method::HEAD);
    match (request.uri().path(), metrics) {
        ("/metrics", Some(metrics)) if readable => {
            meters::look(gateway);
            let mut answer = Response::new(Full::from(metrics.render()));
            let kind = hyper::header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            answer.headers_mut().insert(CONTENT_TYPE, kind);
            Ok(answer)
        }
        ("/readyz", _) if readable => Ok(handshake::readiness(gateway)),
        // A socket is opened on the public port only.
        ("/ws", _) => Ok(handshake::not_here()),
        _ => Ok(handshake::respond(gateway, request, peer).await.0),
    }
}
