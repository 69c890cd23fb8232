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
use metrics::gauge;
use shared::contract::http::problem_stream::ProblemStream;
use shared::kit::net::accept::{AcceptLoop, AcceptMetrics, Accepted};
use shared::kit::telemetry::exporter::{MetricsExporter, SERVICE_READY};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::http::server::MAX_HEADER_BYTES;
use crate::http::{self, HttpError};
use crate::state::AppState;

/// Concurrent requests.
const MAX_REQUESTS: usize = 64;
/// From the accepted connection to the end of the response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves until this future is dropped. Only the first gateway of a process has `metrics`.
pub(crate) async fn serve(app: Arc<AppState>, listener: TcpListener, metrics: Option<MetricsExporter>) {
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
    // The end of a gateway does not wait for its reports.
    accept_loop.run(&TaskTracker::new(), serve).await;
}

async fn respond(
    app: &Arc<AppState>,
    metrics: Option<&MetricsExporter>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let id = http::request_id_of(request.headers());
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    Ok(match (request.uri().path(), metrics) {
        ("/healthz" | "/readyz", _) | ("/metrics", Some(_)) if *request.method() == Method::OPTIONS => {
            http::options_response(&id)
        }
        ("/healthz" | "/readyz", _) | ("/metrics", Some(_)) if !is_read => {
            HttpError::method_not_allowed().into_response(&id)
        }
        ("/healthz", _) => http::health_ok(&id),
        ("/readyz", _) => http::readiness(app),
        ("/metrics", Some(metrics)) => {
            set_gauges(app);
            let mut response = Response::new(Full::from(metrics.render()));
            let kind = hyper::header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        _ => {
            let detail = "There is nothing at this path. This port serves `/metrics`, `/healthz` and `/readyz`.";
            HttpError::not_found(detail).into_response(&id)
        }
    })
}

/// Sets the gauges that are not updated when they change.
fn set_gauges(app: &AppState) {
    gauge!(SERVICE_READY.name).set(f64::from(u8::from(http::is_ready(app).is_ok())));
    gauge!("ehr_chat_gateway_receipts_queue_depth").set(app.receipts.queued_weight() as f64);
    gauge!("ehr_chat_gateway_presence_participants").set(app.presence.participant_count() as f64);
    let free = app.handshake_permits.available_permits();
    gauge!("ehr_chat_gateway_handshakes_in_flight").set(app.max_handshakes.saturating_sub(free) as f64);
}
