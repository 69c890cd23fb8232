//! Request bodies are read with a size limit and checked field by field, so that one response lists all errors. Response bodies
//! are JSON that is already encoded.

use std::marker::PhantomData;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use poem::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use poem::{IntoResponse, Request, RequestBody, Response};
use poem_openapi::payload::{ParsePayload, Payload};
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde::Serialize;
use serde_json::{Map, Value};
use shared::contract::http::problem::{InputError, Problem};
use shared::contract::ids::{LocationId, parse_uuid};
use shared::contract::participant::Participant;
use shared::kit::json::{self, JsonError, pointer_step};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::timeout;
use uuid::Uuid;

use super::{auth, authorization};
use crate::http::error::{ProblemBody, invalid, problem_error};

/// Maximum body size in bytes. 8,000 characters written as `\uXXXX\uXXXX` take 96,000.
pub(crate) const MAX_BODY_BYTES: usize = 256 * 1024;
/// Bytes of an oversized body that are read and discarded, so that the client can receive the 413 response.
const MAX_DISCARDED_BYTES: usize = 16 * 1024 * 1024;

/// How long a body may take to arrive. The load balancer may be stricter.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

const JSON: &str = "application/json";

/// A body with a schema.
pub(crate) trait Documented: FromFields {
    /// Its schema in the OpenAPI document.
    type Schema: Type;
}

/// A body that is read field by field.
pub(crate) trait FromFields: Sized + Send {
    /// Reads the fields. Every error is noted in `fields`; with an error the result is `None`.
    fn from_fields(fields: &mut FieldReader) -> Option<Self>;

    /// The location and sender that an invalid body names, as far as they could be parsed. Authorization is checked against them
    /// first.
    fn sender(_fields: &mut FieldReader) -> (Option<LocationId>, Option<Participant>) {
        (None, None)
    }
}

/// A request body.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: Documented> Payload for JsonBody<T> {
    const CONTENT_TYPE: &'static str = JSON;

    fn check_content_type(content_type: &str) -> bool {
        is_json(content_type)
    }

    fn schema_ref() -> MetaSchemaRef {
        T::Schema::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::Schema::register(registry);
    }
}

impl<T: Documented> ParsePayload for JsonBody<T> {
    const IS_REQUIRED: bool = true;

    async fn from_request(request: &Request, body: &mut RequestBody) -> poem::Result<Self> {
        read(request, body.take()?, MAX_BODY_BYTES).await.map(Self)
    }
}

/// Reads a request body of at most `max_bytes`.
pub(crate) async fn read<T: FromFields>(request: &Request, body: poem::Body, max_bytes: usize) -> poem::Result<T> {
    check_encoding(request)?;
    if !request.content_type().is_some_and(is_json) {
        return Err(problem_error(Problem::new(415, "the body must be `Content-Type: application/json`, in UTF-8")));
    }
    let bytes = match timeout(BODY_TIMEOUT, read_within_limit(body, max_bytes)).await {
        Ok(Ok(Some(bytes))) => bytes,
        Ok(Ok(None)) => {
            return Err(problem_error(Problem::new(413, format!("the body is larger than {max_bytes} bytes"))));
        }
        Ok(Err(_)) => return Err(problem_error(Problem::new(400, "the body did not arrive whole"))),
        Err(_) => return Err(problem_error(Problem::new(408, "the body did not arrive in time"))),
    };
    parse::<T>(&bytes).map_err(|problem| {
        let (location, sender) = parse_sender::<T>(&bytes);
        let checked = authorization::check_sender(request, location.as_ref(), sender.as_ref());
        checked.err().map_or_else(|| problem_error(*problem), auth::forbidden)
    })
}

/// The location and sender of a body that was rejected.
fn parse_sender<T: FromFields>(bytes: &[u8]) -> (Option<LocationId>, Option<Participant>) {
    match json::parse(bytes) {
        Ok(Value::Object(object)) => T::sender(&mut FieldReader { object, errors: Vec::new() }),
        _ => (None, None),
    }
}

/// Encoded bodies are rejected: a small compressed body may expand without bound.
fn check_encoding(request: &Request) -> poem::Result<()> {
    let lines = request.headers().get_all(CONTENT_ENCODING);
    let is_plain = |line: &poem::http::HeaderValue| line.as_bytes().eq_ignore_ascii_case(b"identity");
    if lines.iter().all(is_plain) {
        return Ok(());
    }
    let problem = Problem::new(415, "the body must come without `Content-Encoding`");
    // RFC 9110, section 15.5.16: names the accepted encoding.
    let answer = ProblemBody::from(problem).with_header(ACCEPT_ENCODING, "identity");
    Err(poem::Error::from_response(answer.into_response()))
}

/// Whether a media type is JSON in UTF-8.
fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case(JSON));
    let is_charset = |name: &str| name.trim().eq_ignore_ascii_case("charset");
    let is_utf_8 = |value: &str| value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8");
    is_json && parts.filter_map(|part| part.split_once('=')).all(|(name, value)| !is_charset(name) || is_utf_8(value))
}

/// The body, or `None` when it is too large. The rest of a large body is read as well. A connection that closes with unread bytes
/// may lose the response.
async fn read_within_limit(body: poem::Body, max_bytes: usize) -> std::io::Result<Option<Vec<u8>>> {
    let mut chunks = pin!(body.into_bytes_stream());
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        if bytes.len() + chunk.len() > max_bytes {
            let mut discarded = chunk.len();
            while discarded < MAX_DISCARDED_BYTES
                && let Some(chunk) = chunks.next().await
            {
                discarded += chunk?.len();
            }
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Some(bytes))
}

impl<'a, T: Documented> ApiExtractor<'a> for JsonBody<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        <Self as Payload>::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let content = vec![MetaMediaType { content_type: Self::CONTENT_TYPE, schema: Self::schema_ref() }];
        Some(MetaRequest { description: None, content, required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        <Self as ParsePayload>::from_request(request, body).await
    }
}

fn parse<T: FromFields>(bytes: &[u8]) -> Result<T, Box<Problem>> {
    let value = json::parse(bytes).map_err(|error| {
        let problem = Problem::new(400, format!("the body {error}"));
        Box::new(match error {
            JsonError::RepeatedKey { pointer } => {
                problem.with_errors(vec![InputError::new(pointer, "is given more than once")])
            }
            JsonError::Syntax { .. } => problem,
        })
    })?;
    let Value::Object(object) = value else {
        return Err(Box::new(invalid(vec![InputError::new("", "the body must be an object")])));
    };
    let mut fields = FieldReader { object, errors: Vec::new() };
    let read = T::from_fields(&mut fields);
    match (read, fields.into_errors()) {
        (Some(value), errors) if errors.is_empty() => Ok(value),
        (_, errors) => Err(Box::new(invalid(errors))),
    }
}

/// The fields of an object, and the errors found so far.
pub(crate) struct FieldReader {
    object: Map<String, Value>,
    errors: Vec<InputError>,
}

impl FieldReader {
    /// Notes an error of a field, or of the whole body when `field` is empty.
    pub(crate) fn reject(&mut self, field: &str, why: impl Into<String>) {
        let pointer = if field.is_empty() { String::new() } else { format!("/{field}") };
        self.errors.push(InputError::new(pointer, why));
    }

    /// Removes and returns a field; `null` counts as absent.
    fn take(&mut self, field: &str) -> Option<Value> {
        self.object.remove(field).filter(|value| !value.is_null())
    }

    /// A required field.
    fn require(&mut self, field: &str) -> Option<Value> {
        let value = self.take(field);
        if value.is_none() {
            self.reject(field, "is missing");
        }
        value
    }

    fn as_text(&mut self, field: &str, value: Value) -> Option<String> {
        match value {
            Value::String(text) => Some(text),
            _ => {
                self.reject(field, "must be a string");
                None
            }
        }
    }

    fn parsed<T>(&mut self, field: &str, value: Value) -> Option<T>
    where
        T: TryFrom<String, Error: std::fmt::Display>,
    {
        let text = self.as_text(field, value)?;
        text.try_into().map_err(|error: T::Error| self.reject(field, error.to_string())).ok()
    }

    /// A required string.
    pub(crate) fn text(&mut self, field: &str) -> Option<String> {
        let value = self.require(field)?;
        self.as_text(field, value)
    }

    /// A required identifier.
    pub(crate) fn id<T: TryFrom<String, Error: std::fmt::Display>>(&mut self, field: &str) -> Option<T> {
        let value = self.require(field)?;
        self.parsed(field, value)
    }

    /// An optional identifier: `Some(None)` when absent, `None` when invalid.
    pub(crate) fn optional_id<T: TryFrom<String, Error: std::fmt::Display>>(
        &mut self,
        field: &str,
    ) -> Option<Option<T>> {
        match self.take(field) {
            None => Some(None),
            Some(value) => self.parsed(field, value).map(Some),
        }
    }

    /// An optional string: `Some(None)` when absent, `None` when invalid.
    pub(crate) fn optional_text(&mut self, field: &str) -> Option<Option<String>> {
        match self.take(field) {
            None => Some(None),
            Some(value) => self.as_text(field, value).map(Some),
        }
    }

    /// An optional RFC 3339 time: `Some(None)` when absent, `None` when invalid.
    pub(crate) fn optional_time(&mut self, field: &str) -> Option<Option<OffsetDateTime>> {
        let Some(text) = self.optional_text(field)? else { return Some(None) };
        let time = OffsetDateTime::parse(&text, &Rfc3339);
        time.map_err(|_| self.reject(field, "must be an RFC 3339 time")).ok().map(Some)
    }

    /// An optional UUID: `Some(None)` when absent, `None` when invalid.
    pub(crate) fn optional_uuid(&mut self, field: &str) -> Option<Option<Uuid>> {
        let Some(value) = self.take(field) else { return Some(None) };
        let uuid = value.as_str().and_then(parse_uuid);
        if uuid.is_none() {
            self.reject(field, "must be a UUID");
        }
        uuid.map(Some)
    }

    /// A required array of 1 to `max` UUIDs.
    pub(crate) fn uuids(&mut self, field: &str, max: usize) -> Option<Vec<Uuid>> {
        let Value::Array(values) = self.require(field)? else {
            self.reject(field, "must be an array of UUIDs");
            return None;
        };
        if !(1..=max).contains(&values.len()) {
            self.reject(field, format!("must have 1 to {max} elements"));
            return None;
        }
        let mut uuids = Vec::with_capacity(values.len());
        for (index, value) in values.iter().enumerate() {
            match value.as_str().and_then(parse_uuid) {
                Some(uuid) => uuids.push(uuid),
                None => self.reject(&format!("{field}/{index}"), "must be a UUID"),
            }
        }
        (uuids.len() == values.len()).then_some(uuids)
    }

    /// All errors. An unknown field is one, so that a misspelt `client_message_id` is noticed.
    fn into_errors(mut self) -> Vec<InputError> {
        const MAX_REPORTED_ERRORS: usize = 20;
        for field in self.object.keys().take(MAX_REPORTED_ERRORS) {
            self.errors.push(match pointer_step(field) {
                Some(pointer) => InputError::new(pointer, "is not a field of this request"),
                None => InputError::new("", "has a field that is not one of this request"),
            });
        }
        self.errors.truncate(MAX_REPORTED_ERRORS);
        self.errors
    }
}

/// JSON that is already encoded, documented as a `T`.
pub(crate) struct RawJson<T> {
    json: String,
    documented_as: PhantomData<fn() -> T>,
}

impl<T> RawJson<T> {
    /// Wraps encoded JSON.
    pub(crate) fn from_string(json: String) -> Self {
        Self { json, documented_as: PhantomData }
    }

    pub(crate) fn encode(value: &impl Serialize) -> Result<Self, crate::domain::error::DomainError> {
        serde_json::to_string(value)
            .map(Self::from_string)
            .map_err(|error| crate::domain::error::DomainError::Internal(error.into()))
    }
}

impl<T: Type> Payload for RawJson<T> {
    const CONTENT_TYPE: &'static str = JSON;

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: Send> IntoResponse for RawJson<T> {
    fn into_response(self) -> Response {
        Response::builder().content_type(JSON).body(self.json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_content_type_must_be_utf8() {
        for good in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
            "application/json; profile=x; charset=utf-8",
        ] {
            assert!(is_json(good), "{good}");
        }
        for bad in [
            "text/json",
            "application/jsonp",
            "",
            "application/json; charset=utf-16",
            "application/json;CharSet=latin1",
        ] {
            assert!(!is_json(bad), "{bad}");
        }
    }
}
