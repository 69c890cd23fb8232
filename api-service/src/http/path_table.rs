//! What each path accepts: its methods, for `Allow` and CORS, and the query parameters of each operation. Derived from the
//! OpenAPI document, so that documentation and behaviour cannot differ.
//!
//! poem itself answers 405 without `Allow`, answers no `OPTIONS`, and ignores parameters that an operation does not have.

use std::collections::BTreeMap;
use std::sync::Arc;

use poem::Request;
use poem::http::Method;
use serde_json::Value;
use shared::contract::http::query::{self, Parameter};

use crate::http::error::problem_error;

/// All paths.
pub(crate) type PathTable = Arc<BTreeMap<String, PathSpec>>;

/// One path.
#[derive(Debug, Default)]
pub(crate) struct PathSpec {
    /// The value of `Allow`.
    pub(crate) allow: String,
    operations: Vec<Operation>,
}

#[derive(Debug)]
struct Operation {
    method: Method,
    parameters: Parameters,
    needs_token: bool,
}

/// Query parameters of an operation.
#[derive(Debug, Clone)]
pub(crate) struct Parameters(Arc<[Parameter]>);

impl Parameters {
    /// Checks that a query has only these parameters, each at most once.
    ///
    /// # Errors
    /// 400 or 422.
    pub(crate) fn check(&self, request: &Request) -> poem::Result<()> {
        let read = query::parse(request.uri().query().unwrap_or_default(), &self.0);
        read.map(|_| ()).map_err(|error| problem_error(error.into()))
    }
}

impl PathSpec {
    /// A page or a file: GET with any query, because links carry parameters of other sites.
    pub(crate) fn page() -> Self {
        Self { allow: allow(&[Method::GET]), operations: Vec::new() }
    }

    /// An undocumented path with one method, no parameters and no token.
    pub(crate) fn single_method(method: Method) -> Self {
        let allow = allow(std::slice::from_ref(&method));
        let operation = Operation { method, parameters: Parameters(Arc::new([])), needs_token: false };
        Self { allow, operations: vec![operation] }
    }

    /// A path of the OpenAPI document.
    pub(crate) fn from_openapi(operations: &Value) -> Self {
        let operations: Vec<Operation> = operations.as_object().into_iter().flatten().filter_map(operation).collect();
        let methods: Vec<Method> = operations.iter().map(|operation| operation.method.clone()).collect();
        Self { allow: allow(&methods), operations }
    }

    /// Whether the path supports this method.
    pub(crate) fn serves(&self, method: &Method) -> bool {
        self.allow.split(", ").any(|known| known == method.as_str())
    }

    /// The parameters of this method, and whether they are checked only after authentication.
    pub(crate) fn parameters(&self, method: &Method) -> Option<(&Parameters, bool)> {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        let operation = self.operations.iter().find(|operation| operation.method == method)?;
        Some((&operation.parameters, operation.needs_token))
    }
}

fn operation((method, operation): (&String, &Value)) -> Option<Operation> {
    let method = Method::from_bytes(method.to_uppercase().as_bytes()).ok()?;
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let parameters = parameters.filter(|parameter| parameter["in"] == "query").filter_map(|parameter| {
        let may_repeat = parameter["schema"]["type"] == "array";
        Some(Parameter { name: parameter["name"].as_str()?.to_owned(), may_repeat })
    });
    let parameters = Parameters(parameters.collect());
    let needs_token = operation["security"].as_array().is_some_and(|schemes| !schemes.is_empty());
    Some(Operation { method, parameters, needs_token })
}

/// Every path that serves GET serves HEAD (RFC 9110, section 9.3.2), and every path answers OPTIONS.
fn allow(methods: &[Method]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for method in methods {
        names.push(method.as_str());
        if method == Method::GET {
            names.push("HEAD");
        }
    }
    names.push("OPTIONS");
    names.join(", ")
}

/// All methods of all paths, for `OPTIONS *`.
pub(crate) fn all_methods(paths: &PathTable) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in paths.values().flat_map(|path| path.allow.split(", ")) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.sort_unstable();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use shared::contract::http::problem::Problem;

    async fn checked(path: &PathSpec, method: Method, query: &str) -> Result<(), (u16, Vec<String>)> {
        let (parameters, _) = path.parameters(&method).unwrap();
        let request = Request::builder().method(method).uri_str(format!("/x?{query}")).finish();
        let Err(error) = parameters.check(&request) else { return Ok(()) };
        let problem: Problem = error.into_response().into_body().into_json().await.unwrap();
        Err((problem.status, problem.errors.into_iter().map(|error| error.pointer).collect()))
    }

    #[tokio::test]
    async fn path_accepts_only_documented_parameters() {
        let path = PathSpec::from_openapi(&json!({
            "get": {
                "parameters": [
                    {"name": "limit", "in": "query", "schema": {"type": "integer"}},
                    {"name": "user_id", "in": "query", "schema": {"type": "array"}},
                    {"name": "x-trace", "in": "header", "schema": {"type": "string"}},
                ],
                "security": [{"token": []}],
            },
            "put": {},
        }));
        assert_eq!(path.allow, "GET, HEAD, PUT, OPTIONS");
        assert!([Method::GET, Method::HEAD, Method::PUT, Method::OPTIONS].iter().all(|method| path.serves(method)));
        assert!(![Method::POST, Method::TRACE].iter().any(|method| path.serves(method)));
        for method in [Method::GET, Method::HEAD] {
            assert!(path.parameters(&method).unwrap().1);
            assert_eq!(checked(&path, method.clone(), "limit=5&user_id=a&user_id=b").await, Ok(()));
            let refused = checked(&path, method.clone(), "x-trace=1").await;
            assert_eq!(refused, Err((422, vec!["?x-trace".to_owned()])));
            assert_eq!(checked(&path, method, "limit=5&limit=5").await, Err((400, vec!["?limit".to_owned()])));
        }
        assert!(!path.parameters(&Method::PUT).unwrap().1);
        assert_eq!(checked(&path, Method::PUT, "limit=5").await, Err((422, vec!["?limit".to_owned()])));
        assert!(path.parameters(&Method::DELETE).is_none());
    }

    #[test]
    fn all_methods_lists_each_once() {
        let paths = [("/".to_owned(), PathSpec::page()), ("/a".to_owned(), PathSpec::single_method(Method::POST))];
        assert_eq!(all_methods(&Arc::new(paths.into_iter().collect())), "GET, HEAD, OPTIONS, POST");
    }
}
