//! The admin port: metrics and health. It serves plain HTTP and must never be public.

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
use shared::contract::http::problem_stream::ProblemStream;
use shared::kit::net::accept::{AcceptLoop, AcceptMetrics, Accepted};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::http;
use crate::http::server::MAX_HEADER_BYTES;
use crate::metrics as service_metrics;
use crate::state::AppState;

/// Concurrent requests.
const MAX_REQUESTS: usize = 64;
/// From the accepted connection to the end of the response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves until this future is dropped. Only the first gateway of a process has `metrics`.
pub(crate) async fn serve(app: Arc<AppState>, listener: TcpListener, metrics: Option<PrometheusHandle>) {
    let counters = AcceptMetrics { throttled: None, errors: "ehr_chat_gateway_accept_errors_total" };
    let accept_loop = AcceptLoop::new(listener, Arc::new(Semaphore::new(MAX_REQUESTS)), counters);
    let serve = |Accepted { tcp, permit, .. }| {
        let (app, metrics) = (app.clone(), metrics.clone());
        async move {
            let service = service_fn(|request| respond(&app, metrics.as_ref(), request));
            let io = TokioIo::new(ProblemStream::new(tcp, MAX_HEADER_BYTES));
            let mut http = http1::Builder::new();
            let mut connection = http.keep_alive(false).max_buf_size(MAX_HEADER_BYTES).serve_connection(io, service);
            // A client that disconnects early needs no response.
            if let Ok(Err(error)) = timeout(REQUEST_TIMEOUT, &mut connection).await
                && error.is_parse()
            {
                connection.into_parts().io.into_inner().close_unparsable().await;
            }
            drop(permit);
        }
    };
    accept_loop.run(&Default::default(), serve).await;
}

async fn respond(
    app: &Arc<AppState>,
    metrics: Option<&PrometheusHandle>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let id = http::request_id_of(request.headers());
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    Ok(match (request.uri().path(), metrics) {
        ("/healthz" | "/readyz", _) | ("/metrics", Some(_)) if *request.method() == Method::OPTIONS => {
            http::options_response(&id)
        }
        ("/healthz" | "/readyz", _) | ("/metrics", Some(_)) if !is_read => http::method_not_allowed(&id),
        ("/healthz", _) => http::health_ok(&id),
        ("/readyz", _) => http::readiness(app),
        ("/metrics", Some(metrics)) => {
            service_metrics::collect(app);
            let mut response = Response::new(Full::from(metrics.render()));
            let kind = hyper::header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        _ => http::admin_not_found(&id),
    })
}
