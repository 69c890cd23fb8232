//! What came back over HTTP, and what every refusal must look like.

use reqwest::header::HeaderMap;
use serde_json::Value;

use crate::secret_text::SECRET_MARK;

const OPENAPI: &str = include_str!("../../openapi.yaml");

/// The status that the OpenAPI document gives to a code.
fn documented_status(code: &str) -> Option<u16> {
    OPENAPI.split_once(&format!("| `{code}` | "))?.1.get(..3)?.parse().ok()
}

/// Looks at the members that every problem has.
pub fn assert_members(problem: &Value, status: u16) {
    for member in ["type", "title", "detail", "code", "request_id"] {
        assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {problem}");
    }
    assert_eq!(problem["status"], status, "{problem}");
    assert_eq!(problem["code"].as_str().and_then(documented_status), Some(status), "{problem}");
    assert!(is_text_of_sentences(&problem["detail"]), "{problem}");
    for error in problem["errors"].as_array().into_iter().flatten() {
        assert!(error["pointer"].is_string() && is_text_of_sentences(&error["detail"]), "{problem}");
    }
}

/// Whether a text is written for people: it begins as a sentence does, and ends as one.
fn is_text_of_sentences(text: &Value) -> bool {
    let text = text.as_str().unwrap_or_default();
    text.ends_with('.') && text.starts_with(|first: char| first.is_uppercase() || first == '`')
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct HttpResponse {
    /// HTTP status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub text: String,
}

impl HttpResponse {
    /// Reads an answer to its end.
    pub async fn read(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("the answer's body arrives");
        Self { status, headers, text }
    }

    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A header, when it is there exactly once.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?.to_str().ok();
        assert!(values.next().is_none(), "{name} is there twice: {self:?}");
        value
    }

    /// The JSON of a success with this status.
    #[must_use]
    pub fn expect_status(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        assert!(self.header("x-request-id").is_some_and(|id| !id.is_empty()), "{self:?}");
        self.json()
    }

    /// The problem of a refusal with this status, after a look at all that every refusal owes its caller.
    #[must_use]
    pub fn expect_problem(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_members(&problem, status);
        assert_eq!(problem["request_id"].as_str(), self.header("x-request-id"), "{self:?}");
        if status == 422 {
            let errors = problem["errors"].as_array().unwrap_or_else(|| panic!("no errors: {self:?}"));
            assert!(!errors.is_empty(), "{self:?}");
        }
        let owed =
            [(401, "www-authenticate"), (405, "allow"), (426, "upgrade"), (429, "retry-after"), (503, "retry-after")];
        for (when, name) in owed {
            assert!(status != when || self.header(name).is_some(), "no {name}: {self:?}");
        }
        // Neither content nor a token (whose header always begins like this) is ever repeated.
        for secret in [SECRET_MARK, "eyJ"] {
            assert!(!format!("{self:?}").contains(secret), "{secret} in {self:?}");
        }
        problem
    }

    /// The same, and `code` names the cause.
    pub fn expect_code(&self, status: u16, code: &str) {
        assert_eq!(self.expect_problem(status)["code"], code, "{self:?}");
    }

    /// The same, and `field` is what was wrong.
    pub fn expect_invalid(&self, pointer: &str) {
        let problem = self.expect_problem(422);
        let errors = problem["errors"].as_array().expect("checked above");
        assert!(errors.iter().any(|error| error["pointer"] == pointer), "{pointer}: {self:?}");
    }
}
