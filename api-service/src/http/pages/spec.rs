//! The OpenAPI document. It needs no configuration, so `api-service openapi` can print it anywhere.

use std::sync::Arc;

use poem::http::Method;
use poem_openapi::{LicenseObject, OpenApiService, ServerObject};
use serde_json::{Value, json};
use shared::contract::error_code::ProblemCode;
use shared::contract::http::problem::{CONTENT_TYPE, InputError, Problem};
use shared::contract::token::{AuthorizationError, TokenError};

use crate::http::body::{MAX_BODY_BYTES, UNSUPPORTED_MEDIA_TYPE};
use crate::http::endpoints::conversations::Conversations;
use crate::http::endpoints::dev_token::{self, Development};
use crate::http::endpoints::health::Health;
use crate::http::endpoints::messages::Messages;
use crate::http::endpoints::presence::Presence;
use crate::http::endpoints::receipts::Receipts;
use crate::http::endpoints::revocations::Admin;
use crate::http::endpoints::tickets::Tickets;
use crate::http::error::internal_error;
use crate::http::openapi::document;
use crate::http::pages::assets;
use crate::http::path_table::{PathSpec, PathTable};

const DESCRIPTION: &str = "Real-time chat between staff (`user_id`) and patients (`contact_id`) within a location \
(`location_id`). Live events come by WebSocket at `/ws`, which `/asyncapi.yaml` describes. Every failure is an RFC 9457 \
problem with a `request_id`. Input that contradicts itself is refused: a key, a header that may be there once, or a query parameter given twice (400); \
unknown fields and query parameters (422). Every path answers `OPTIONS`, and `HEAD` where it answers `GET`.\n\n\
Some failures cannot have a problem body. The load balancer answers in plain text what it cannot read: what is no HTTP, two \
different hosts, a WebSocket handshake without a key, a head over 128 KiB (400), and a head that does not end within 10 seconds \
(408). When a service dies, it ends a connection that was kept from an earlier request without an answer: repeat the request. \
The answer to `HEAD` has no body at all. A request that a server did not finish (502, 504) may have taken effect; repeating it is \
safe, a message with the same `client_message_id`.";

/// The operations, in the order in which a newcomer needs them.
type Endpoints = (Messages, Conversations, Receipts, Presence, Tickets, Health, Admin);
const ENDPOINTS: Endpoints = (Messages, Conversations, Receipts, Presence, Tickets, Health, Admin);

/// The endpoints and their documentation.
pub(crate) fn service() -> OpenApiService<Endpoints, ()> {
    describe(ENDPOINTS)
}

/// The same in development mode.
pub(crate) fn development_service() -> OpenApiService<(Development, Endpoints), ()> {
    describe((Development, ENDPOINTS))
}

fn describe<T>(operations: T) -> OpenApiService<T, ()> {
    OpenApiService::new(operations, "EHR chat", env!("CARGO_PKG_VERSION"))
        .description(DESCRIPTION)
        .license(LicenseObject::new("MIT").url("https://opensource.org/license/mit"))
        .server(ServerObject::new("/").description("This server"))
}

/// The document as JSON.
pub(crate) fn json(is_development: bool) -> String {
    document(is_development).to_string()
}

/// The document as YAML. The document of production is the published one.
#[must_use]
pub fn yaml(is_development: bool) -> String {
    yaml_serde::to_string(&document(is_development)).unwrap_or_default()
}

/// How poem-openapi's page starts Swagger UI.
const START: &str = "\n    SwaggerUIBundle({";

/// Swagger UI that contains the document. In development mode a click authorises with a demonstration token.
pub(crate) fn swagger_ui(is_development: bool) -> String {
    let page = service().swagger_ui_html().replace(&service().spec(), &json(is_development));
    match page.rsplit_once("</body>").filter(|_| is_development) {
        Some((page, end)) => {
            let page = page.replace(START, "\n    globalThis.ui = SwaggerUIBundle({");
            format!("{page}<script>{DEMO_TOKEN_SCRIPT}</script>\n</body>{end}")
        }
        None => page,
    }
}

const DEMO_TOKEN_SCRIPT: &str = include_str!("demo_token.js");

/// The generated document, completed with what poem-openapi cannot express: closed objects, whole numbers, the errors of a body,
/// and headers and examples that depend on the status of a response.
fn document(is_development: bool) -> Value {
    let generated = if is_development { development_service().spec() } else { service().spec() };
    let mut document: Value = serde_json::from_str(&generated).unwrap_or_default();
    for closed in ["SendMessage", "MarkMessages", "Revocation", "DevTokenRequest"] {
        if let Some(schema) = document["components"]["schemas"].get_mut(closed) {
            schema["additionalProperties"] = json!(false);
        }
    }
    for (path, operations) in document["paths"].as_object_mut().into_iter().flatten() {
        let max_bytes = if path == dev_token::PATH { dev_token::MAX_BODY_BYTES } else { MAX_BODY_BYTES };
        for operation in objects(operations) {
            let has_body = operation.get("requestBody").is_some();
            let Some(responses) = operation["responses"].as_object_mut() else { continue };
            if has_body {
                responses.extend(body_errors(max_bytes));
                responses.sort_keys();
            }
            for (status, response) in responses {
                describe_response(status.parse().unwrap_or_default(), response, max_bytes);
            }
        }
    }
    write_whole_numbers(&mut document);
    document::rewrite(&mut document);
    document
}

/// Errors of [`crate::http::body::JsonBody`] itself.
fn body_errors(max_bytes: usize) -> [(String, Value); 3] {
    let errors = [
        ("408", "The body did not arrive in time.".to_owned()),
        ("413", format!("The body is larger than {} KiB.", max_bytes / 1024)),
        ("415", "The body is not `application/json`.".to_owned()),
    ];
    errors.map(|(status, description)| (status.to_owned(), body_error(&description)))
}

fn body_error(description: &str) -> Value {
    let schema = json!({"$ref": "#/components/schemas/Problem"});
    json!({"description": description, "content": {CONTENT_TYPE: {"schema": schema}}})
}

fn objects(value: &mut Value) -> impl Iterator<Item = &mut Value> {
    value.as_object_mut().into_iter().flat_map(|object| object.values_mut())
}

fn describe_response(status: u16, response: &mut Value, max_bytes: usize) {
    let text = |description: &str| json!({"description": description, "schema": {"type": "string"}});
    response["headers"] = json!({"X-Request-Id": text("The caller's, or a new one: names the request in logs.")});
    match status {
        401 => response["headers"]["WWW-Authenticate"] = text("RFC 6750: why the token was refused."),
        429 | 503 => {
            response["headers"]["Retry-After"] = json!({"description": "Seconds.", "schema": {"type": "integer"}});
        }
        _ => {}
    }
    // Indexing would insert a `null` into a response without content.
    if let Some(media) = response.get_mut("content").and_then(|content| content.get_mut(CONTENT_TYPE)) {
        media["example"] = json!(example(status, max_bytes).with_request_id("0199b1d2-7c1e-7b39-a1f0-3c5d7e9a1b2c"));
    }
}

/// An example of a problem with this status.
fn example(status: u16, max_bytes: usize) -> Problem {
    let (code, detail) = match status {
        400 => (ProblemCode::Malformed, "The body is not JSON (line 1, column 2). Correct the body."),
        401 => return Problem::from(&TokenError::Expired),
        403 => return AuthorizationError::Participant.into(),
        408 => {
            (ProblemCode::RequestTimeout, "The body did not arrive in time. Send the request again, without a pause.")
        }
        409 => (
            ProblemCode::ClientMessageIdReused,
            "The `client_message_id` was used for a different message. Give this one a new id.",
        ),
        413 => {
            let detail = format!("The body is larger than {max_bytes} bytes. Send less at once.");
            return Problem::new(ProblemCode::BodyTooLarge, detail);
        }
        415 => (ProblemCode::UnsupportedMediaType, UNSUPPORTED_MEDIA_TYPE),
        422 => {
            let error = InputError::field(ProblemCode::ContentEmpty, "content", "is empty");
            return Problem::of_input(vec![error]);
        }
        429 => (ProblemCode::RateLimited, "Too many requests of this caller came at once. Try again in 1 s."),
        503 => (
            ProblemCode::DatabaseUnavailable,
            "The database is out of reach. Try again in a second; a message needs the same `client_message_id`.",
        ),
        _ => return internal_error(),
    };
    Problem::new(code, detail)
}

/// poem-openapi keeps every bound as a float.
fn write_whole_numbers(value: &mut Value) {
    match value {
        Value::Object(object) => object.values_mut().for_each(write_whole_numbers),
        Value::Array(array) => array.iter_mut().for_each(write_whole_numbers),
        Value::Number(number) => {
            #[expect(clippy::cast_possible_truncation, reason = "only whole numbers that fit are cast")]
            if let Some(float) = number.as_f64().filter(|_| number.is_f64())
                && float.fract() == 0.0
                && float.abs() < 1e15
            {
                *value = json!(float as i64);
            }
        }
        _ => {}
    }
}

/// Paths of the document itself.
const DOCUMENTS: [&str; 3] = ["/openapi.json", "/openapi.yaml", "/asyncapi.yaml"];

/// Pages and their files.
fn pages() -> impl Iterator<Item = String> {
    ["/", "/docs"].map(str::to_owned).into_iter().chain(assets::paths())
}

/// The path table.
pub(crate) fn paths(is_development: bool) -> PathTable {
    let document = document(is_development);
    let operations = document["paths"].as_object().into_iter().flatten();
    let operations = operations.map(|(path, operations)| (path.clone(), PathSpec::from_openapi(operations)));
    let documents = DOCUMENTS.map(|path| (path.to_owned(), PathSpec::single_method(Method::GET)));
    let pages = pages().map(|page| (page, PathSpec::page()));
    Arc::new(operations.chain(pages).chain(documents).collect())
}

/// Paths of the documented operations.
pub(crate) fn operation_paths(is_development: bool) -> Vec<String> {
    document(is_development)["paths"].as_object().into_iter().flatten().map(|(path, _)| path.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_have_id_summary_and_problem_bodies() {
        let document = document(true);
        let mut operations = 0;
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                operations += 1;
                assert!(operation["operationId"].is_string() && operation["summary"].is_string(), "{method} {path}");
                for (status, response) in operation["responses"].as_object().unwrap() {
                    let types: Vec<_> =
                        response["content"].as_object().into_iter().flatten().map(|(key, _)| key).collect();
                    if status == "204" {
                        assert!(types.is_empty());
                        continue;
                    }
                    let expected =
                        if status < &"400".to_owned() { "application/json" } else { "application/problem+json" };
                    assert_eq!(types, [expected], "{method} {path} {status}");
                    let example = &response["content"]["application/problem+json"]["example"];
                    assert!(example.is_null() || example["status"].as_u64() == status.parse().ok(), "{example}");
                }
            }
        }
        assert_eq!(operations, 11);
    }

    #[test]
    fn operations_stand_in_the_order_of_use() {
        let tags = |is_development| -> Vec<String> {
            let document = document(is_development);
            let names = document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap());
            names.map(str::to_owned).collect()
        };
        let of_production = ["Messages", "Conversations", "Receipts", "Sockets", "Health", "Admin"];
        assert_eq!(tags(false), of_production);
        assert_eq!(tags(true), ["Development"].into_iter().chain(of_production).collect::<Vec<_>>());
    }

    #[test]
    fn document_lists_every_code() {
        let document = document(false);
        let problem = &document["components"]["schemas"]["Problem"];
        let code = &problem["properties"]["code"];
        assert_eq!(code["enum"], json!(ProblemCode::ALL));
        assert!(problem["required"].as_array().unwrap().contains(&json!("code")));
        let table = code["description"].as_str().unwrap();
        for code in ProblemCode::ALL {
            assert!(table.contains(&format!("| `{code}` | {} |", code.status())), "{code}");
        }
    }

    #[test]
    fn swagger_ui_embeds_document_and_loads_nothing() {
        for is_development in [false, true] {
            let page = swagger_ui(is_development);
            assert!(page.contains(&json(is_development)));
            assert!(!page.contains("src=\"http") && !page.contains("href=\"http"));
            assert_eq!(page.contains("globalThis.ui = SwaggerUIBundle({"), is_development);
        }
    }

    #[test]
    fn only_development_offers_demonstration_tokens() {
        for part in [dev_token::PATH, "DevToken", "Development"] {
            assert!(json(true).contains(part), "{part}");
            assert!(!json(false).contains(part) && !yaml(false).contains(part), "{part}");
        }
        assert!(swagger_ui(true).contains(DEMO_TOKEN_SCRIPT) && !swagger_ui(false).contains(dev_token::PATH));
    }

    #[test]
    fn document_contains_no_all_of() {
        assert!(!json(true).contains("allOf"), "generators drop models whose fields are wrapped in allOf");
    }
}
