//! The admin port: metrics and health. It is never public.

use std::sync::Arc;

use poem::http::header::{ALLOW, HeaderName, X_CONTENT_TYPE_OPTIONS};
use poem::http::{HeaderValue, Method, StatusCode};
use poem::{Endpoint, IntoResponse, Request, Response};
use shared::contract::error_code::ProblemCode;
use shared::contract::http::problem::{self, Problem, REQUEST_ID_HEADER};
use shared::kit::telemetry::exporter::MetricsExporter;

use crate::http::endpoints::health;
use crate::http::error::ProblemBody;
use crate::state::AppState;

/// `Allow` of every path. A path that serves GET serves HEAD (RFC 9110, section 9.3.2).
const ALLOWED_METHODS: &str = "GET, HEAD, OPTIONS";

/// The endpoint of the admin port. Only the first server of a process has `metrics`.
pub fn admin(state: Arc<AppState>, metrics: Option<MetricsExporter>) -> impl Endpoint<Output = Response> + 'static {
    Admin { state, metrics }
}

struct Admin {
    state: Arc<AppState>,
    metrics: Option<MetricsExporter>,
}

impl Endpoint for Admin {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let request_id_header = request.headers().get(REQUEST_ID_HEADER).and_then(|value| value.to_str().ok());
        let request_id = problem::accept_request_id(request_id_header);
        let mut response = self.respond(request.method(), request.uri().path(), &request_id);
        if let Ok(value) = HeaderValue::from_str(&request_id) {
            response.headers_mut().insert(HeaderName::from_static(REQUEST_ID_HEADER), value);
        }
        response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Ok(response)
    }
}

impl Admin {
    fn respond(&self, method: &Method, path: &str, request_id: &str) -> Response {
        if !matches!(path, "/healthz" | "/readyz" | "/metrics") {
            let detail = "There is nothing at this path. This port serves `/metrics`, `/healthz` and `/readyz`.";
            let problem = Problem::new(ProblemCode::NotFound, detail);
            return ProblemBody::from(problem.with_request_id(request_id)).into_response();
        }
        if method == Method::OPTIONS {
            return Response::builder().status(StatusCode::NO_CONTENT).header(ALLOW, ALLOWED_METHODS).finish();
        }
        if method != Method::GET && method != Method::HEAD {
            let detail = "This path does not serve the method. Use one that `Allow` lists.";
            let problem = Problem::new(ProblemCode::MethodNotAllowed, detail);
            let mut response = ProblemBody::from(problem.with_request_id(request_id)).into_response();
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(ALLOWED_METHODS));
            return response;
        }
        // HTTP omits the body of a HEAD response.
        match path {
            "/healthz" => "ok".into_response(),
            "/readyz" => health::readiness_report(&self.state),
            _ => {
                crate::metrics::collect(&self.state);
                self.metrics.as_ref().map(MetricsExporter::render).unwrap_or_default().into_response()
            }
        }
    }
}
