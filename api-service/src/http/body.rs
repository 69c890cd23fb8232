//! Request bodies are read with a size limit and checked field by field, so that one response lists all errors. Response bodies
//! are JSON that is already encoded.

use std::fmt::Display;
use std::marker::PhantomData;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use poem::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use poem::{IntoResponse, Request, RequestBody, Response};
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde::Serialize;
use serde_json::{Map, Value};
use shared::contract::error_code::ProblemCode;
use shared::contract::http::problem::{InputError, Problem};
use shared::contract::ids::{InvalidId, LocationId, parse_uuid};
use shared::contract::participant::Participant;
use shared::kit::json::{self, JsonError, pointer_step};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::timeout;
use uuid::Uuid;

use super::{auth, authorization};
use crate::domain::error::DomainError;
use crate::http::error::{ProblemBody, problem_error};

/// Maximum body size in bytes. 8,000 characters written as `\uXXXX\uXXXX` take 96,000.
pub(crate) const MAX_BODY_BYTES: usize = 256 * 1024;
/// Bytes of an oversized body that are read and discarded, so that the client can receive the 413 response.
const MAX_DISCARDED_BYTES: usize = 16 * 1024 * 1024;

/// How long a body may take to arrive. The load balancer may be stricter.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

const JSON: &str = "application/json";

/// The `detail` of [`ProblemCode::UnsupportedMediaType`].
pub(crate) const UNSUPPORTED_MEDIA_TYPE: &str =
    "The content type of the body is not JSON in UTF-8. Send `Content-Type: application/json`.";

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

/// A request body of at most `MAX` bytes, documented as an `S`.
///
/// poem-openapi's own `Json` has no size limit, stops at the first error and accepts a key twice.
pub(crate) struct JsonBody<T, S, const MAX: usize = MAX_BODY_BYTES>(pub(crate) T, PhantomData<fn() -> S>);

impl<'a, T: FromFields, S: Type, const MAX: usize> ApiExtractor<'a> for JsonBody<T, S, MAX> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        S::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let content = vec![MetaMediaType { content_type: JSON, schema: S::schema_ref() }];
        Some(MetaRequest { description: None, content, required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        read(request, body.take()?, MAX).await.map(|value| Self(value, PhantomData))
    }
}

/// Reads a request body of at most `max_bytes`.
async fn read<T: FromFields>(request: &Request, body: poem::Body, max_bytes: usize) -> poem::Result<T> {
    check_encoding(request)?;
    if !request.content_type().is_some_and(is_json) {
        return Err(problem_error(Problem::new(ProblemCode::UnsupportedMediaType, UNSUPPORTED_MEDIA_TYPE)));
    }
    let bytes = match timeout(BODY_TIMEOUT, read_within_limit(body, max_bytes)).await {
        Ok(Ok(Some(bytes))) => bytes,
        Ok(Ok(None)) => {
            let detail = format!("The body is larger than {max_bytes} bytes. Send less at once.");
            return Err(problem_error(Problem::new(ProblemCode::BodyTooLarge, detail)));
        }
        Ok(Err(_)) => {
            let detail = "The body did not arrive whole. Send the request again.";
            return Err(problem_error(Problem::new(ProblemCode::MalformedRequest, detail)));
        }
        Err(_) => {
            let detail = "The body did not arrive in time. Send the request again, without a pause.";
            return Err(problem_error(Problem::new(ProblemCode::RequestTimeout, detail)));
        }
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
    let detail = "The body has a `Content-Encoding`. Send it without.";
    let problem = Problem::new(ProblemCode::UnsupportedEncoding, detail);
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

pub(crate) fn parse<T: FromFields>(bytes: &[u8]) -> Result<T, Box<Problem>> {
    let value = json::parse(bytes).map_err(|error| {
        let problem = Problem::new(ProblemCode::Malformed, format!("The body {error}. Correct the body."));
        Box::new(match error {
            JsonError::RepeatedKey { pointer } => {
                let error = InputError::new(ProblemCode::Malformed, pointer, "This key is given more than once.");
                problem.with_errors(vec![error])
            }
            JsonError::Syntax { .. } => problem,
        })
    })?;
    let Value::Object(object) = value else {
        let error = InputError::new(ProblemCode::InvalidType, "", "The body must be a JSON object.");
        return Err(Box::new(Problem::of_input(vec![error])));
    };
    let mut fields = FieldReader { object, errors: Vec::new() };
    let read = T::from_fields(&mut fields);
    match (read, fields.into_errors()) {
        (Some(value), errors) if errors.is_empty() => Ok(value),
        (_, errors) => Err(Box::new(Problem::of_input(errors))),
    }
}

/// What is wrong with a value: its code, and a predicate that follows the name of the field.
type Fault = (ProblemCode, String);

/// Parses the value of a field.
type ValueParser<T> = fn(Value) -> Result<T, Fault>;

fn fault<T>(code: ProblemCode, predicate: &str) -> Result<T, Fault> {
    Err((code, predicate.to_owned()))
}

/// A string.
pub(crate) fn text(value: Value) -> Result<String, Fault> {
    match value {
        Value::String(text) => Ok(text),
        _ => fault(ProblemCode::InvalidType, "must be a string"),
    }
}

/// An identifier.
pub(crate) fn id<T: TryFrom<String, Error = InvalidId>>(value: Value) -> Result<T, Fault> {
    text(value)?.try_into().map_err(|error: InvalidId| (ProblemCode::InvalidIdentifier, error.to_string()))
}

/// A UUID.
pub(crate) fn uuid(value: Value) -> Result<Uuid, Fault> {
    parse_uuid(&text(value)?).map_or_else(|| fault(ProblemCode::InvalidUuid, "must be a UUID with hyphens"), Ok)
}

/// An RFC 3339 time.
pub(crate) fn time(value: Value) -> Result<OffsetDateTime, Fault> {
    OffsetDateTime::parse(&text(value)?, &Rfc3339)
        .or_else(|_| fault(ProblemCode::InvalidTime, "must be an RFC 3339 time"))
}

/// The fields of an object, and the errors found so far.
///
/// serde's derived `Deserialize` would end at the first error, and its texts quote the value, which may be message content.
pub(crate) struct FieldReader {
    object: Map<String, Value>,
    errors: Vec<InputError>,
}

impl FieldReader {
    /// Notes an error of a field. `predicate` follows its name.
    pub(crate) fn reject(&mut self, field: &str, code: ProblemCode, predicate: impl Display) {
        self.errors.push(InputError::field(code, field, predicate));
    }

    /// Notes an error that is not one of a single field.
    pub(crate) fn reject_with(&mut self, error: InputError) {
        self.errors.push(error);
    }

    /// An optional field: `Some(None)` when it is absent or `null`, `None` when it is invalid.
    pub(crate) fn optional<T>(&mut self, field: &str, parse: ValueParser<T>) -> Option<Option<T>> {
        match self.object.remove(field) {
            None | Some(Value::Null) => Some(None),
            Some(value) => parse(value).map_err(|(code, predicate)| self.reject(field, code, predicate)).ok().map(Some),
        }
    }

    /// A required field.
    pub(crate) fn required<T>(&mut self, field: &str, parse: ValueParser<T>) -> Option<T> {
        let value = self.optional(field, parse)?;
        if value.is_none() {
            self.reject(field, ProblemCode::MissingField, "is missing");
        }
        value
    }

    /// A required array of 1 to `max` UUIDs.
    pub(crate) fn uuids(&mut self, field: &str, max: usize) -> Option<Vec<Uuid>> {
        let values = self.required(field, |value| match value {
            Value::Array(values) => Ok(values),
            _ => fault(ProblemCode::InvalidType, "must be an array of UUIDs"),
        })?;
        if !(1..=max).contains(&values.len()) {
            self.reject(field, ProblemCode::OutOfRange, format_args!("must have 1 to {max} elements"));
            return None;
        }
        let mut uuids = Vec::with_capacity(values.len());
        let errors_before = self.errors.len();
        for (index, value) in values.into_iter().enumerate() {
            match uuid(value) {
                Ok(uuid) => uuids.push(uuid),
                Err((code, predicate)) => self.reject(&format!("{field}/{index}"), code, predicate),
            }
        }
        (self.errors.len() == errors_before).then_some(uuids)
    }

    /// All errors. An unknown field is one, so that a misspelt `client_message_id` is noticed.
    fn into_errors(mut self) -> Vec<InputError> {
        const MAX_REPORTED_ERRORS: usize = 20;
        for field in self.object.keys().take(MAX_REPORTED_ERRORS) {
            self.errors.push(match pointer_step(field) {
                Some(pointer) => {
                    let detail = format!("The field `{field}` is not one of this request. Remove it.");
                    InputError::new(ProblemCode::UnknownField, pointer, detail)
                }
                None => {
                    let detail = "The body has a field that is not one of this request. Remove it.";
                    InputError::new(ProblemCode::UnknownField, "", detail)
                }
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

    #[cfg(test)]
    pub(crate) fn into_string(self) -> String {
        self.json
    }

    pub(crate) fn encode(value: &impl Serialize) -> Result<Self, DomainError> {
        serde_json::to_string(value).map(Self::from_string).map_err(|error| DomainError::Internal(error.into()))
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
