//! What people read: Swagger UI, the OpenAPI document, and the page to try the chat with. Works without internet.

use bytes::Bytes;
use poem::endpoint::make_sync;
use poem::http::header::CONTENT_SECURITY_POLICY;
use poem::{Endpoint, Response};

use super::spec;

/// Swagger UI and the page are inline scripts; nothing may be loaded from, or sent to, another host.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; \
connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const TRY_IT: &str = include_str!("../../../clients/console/index.html");

/// Swagger UI, with everything it needs in the page.
pub(super) fn swagger_ui() -> impl Endpoint {
    page(Bytes::from(spec::swagger_ui()), "text/html; charset=utf-8")
}

/// The page to try the chat with.
pub(super) fn console() -> impl Endpoint {
    page(Bytes::from_static(TRY_IT.as_bytes()), "text/html; charset=utf-8")
}

/// The OpenAPI document for programs.
pub(super) fn openapi_json() -> impl Endpoint {
    page(Bytes::from(spec::json()), "application/json")
}

/// The OpenAPI document for people.
pub(super) fn openapi_yaml() -> impl Endpoint {
    page(Bytes::from(spec::yaml()), "application/yaml")
}

/// Something that does not change while the service runs: made once, shared by all answers.
fn page(content: Bytes, content_type: &'static str) -> impl Endpoint {
    poem::get(make_sync(move |_| {
        Response::builder()
            .content_type(content_type)
            .header(CONTENT_SECURITY_POLICY, PAGE_POLICY)
            .body(content.clone())
    }))
}
