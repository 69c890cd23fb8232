//! The admin port: metrics and health. It is never public, and it speaks plain HTTP to whoever reaches it.

use std::convert::Infallible;
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
use shared::library_answers::WithProblems;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::http;
use crate::http::server::HEAD_BYTES;
use crate::metrics as service_metrics;
use crate::state::AppState;

/// Requests at a time.
const REQUESTS: usize = 64;
/// From connecting to the end of an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a failed accept.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves until this future is dropped. Without `metrics`, which belong to the first server of a process, there are none.
pub(crate) async fn serve(gateway: Arc<AppState>, listener: TcpListener, metrics: Option<PrometheusHandle>) {
    let slots = Arc::new(Semaphore::new(REQUESTS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let Ok((tcp, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let (gateway, metrics) = (gateway.clone(), metrics.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| respond(&gateway, metrics.as_ref(), request));
            let io = TokioIo::new(WithProblems::new(tcp, HEAD_BYTES));
            let mut http = http1::Builder::new();
            let mut connection = http.keep_alive(false).max_buf_size(HEAD_BYTES).serve_connection(io, service);
            // Who scrapes and goes away has nothing to be told.
            if let Ok(Err(error)) = timeout(PATIENCE, &mut connection).await
                && error.is_parse()
            {
                connection.into_parts().io.into_inner().end_unreadable().await;
            }
            drop(slot);
        });
    }
}

async fn respond(
    gateway: &Arc<AppState>,
    metrics: Option<&PrometheusHandle>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let id = http::request_id_of(request.headers());
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    Ok(match (request.uri().path(), metrics) {
        ("/healthz" | "/readyz", _) | ("/metrics", Some(_)) if *request.method() == Method::OPTIONS => {
            http::options(&id)
        }
        ("/healthz" | "/readyz", _) | ("/metrics", Some(_)) if !is_read => http::wrong_method(&id),
        ("/healthz", _) => http::healthy(&id),
        ("/readyz", _) => http::readiness(gateway),
        ("/metrics", Some(metrics)) => {
            service_metrics::look(gateway);
            let mut answer = Response::new(Full::from(metrics.render()));
            let kind = hyper::header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            answer.headers_mut().insert(CONTENT_TYPE, kind);
            answer
        }
        _ => http::not_on_admin_port(&id),
    })
}
